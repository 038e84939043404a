//! `tenon models list`

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use tenon::{
    config::{Flags, ModelPath, Source},
    hub::Hub,
};
use tenon_hub::{HubSettings, HuggingFace};

use super::facts::size_bytes;

/// List the models in the cache of the Hugging Face Hub, and those that the configuration names.
#[derive(Args)]
pub struct List {
    /// The configuration file [default: ./tenon.toml, then $XDG_CONFIG_HOME/tenon/tenon.toml, else none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A model in the list.
#[derive(Serialize)]
struct Listed {
    /// What `tenon serve` takes, or the name in the configuration.
    name: String,
    /// Its file or directory. None: it is on the hub and not in the cache.
    path: Option<PathBuf>,
    size_bytes: Option<u64>,
    /// Whether the configuration names it.
    is_configured: bool,
}

impl List {
    pub fn run(self) -> anyhow::Result<()> {
        let hub = HuggingFace::new(HubSettings::of_process());
        let cached = hub.cache().models().into_iter().map(|model| Listed {
            name: model.name,
            path: Some(model.path),
            size_bytes: Some(model.size_bytes),
            is_configured: false,
        });
        let models: Vec<Listed> = cached.chain(configured(self.config, &hub)?).collect();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&models)?);
            return Ok(());
        }
        for model in &models {
            println!("{}", line(model));
        }
        if models.is_empty() {
            let place = hub.cache().place();
            eprintln!("no models in {place}: fetch one with `tenon pull hf:OWNER/REPO`");
        }
        Ok(())
    }
}

/// The models that the configuration names. Empty without a configuration.
fn configured(file: Option<PathBuf>, hub: &HuggingFace) -> anyhow::Result<Vec<Listed>> {
    let source = Source::new(file, Flags::default());
    if source.file().is_none() {
        return Ok(Vec::new());
    }
    let listed = |id: String, path: Option<PathBuf>| Listed {
        name: id,
        size_bytes: path.as_deref().and_then(size_bytes),
        path,
        is_configured: true,
    };
    let models = source.load()?.models.into_iter().map(|model| {
        let path = match model.path {
            ModelPath::Local(path) => Some(path),
            ModelPath::Hub(on_hub) => hub.cached(&on_hub),
        };
        listed(model.id, path)
    });
    Ok(models.collect())
}

fn line(model: &Listed) -> String {
    let size = model.size_bytes.map(|bytes| HumanBytes(bytes).to_string());
    let path = model.path.as_ref().map(|path| path.display().to_string());
    format!(
        "{} · {} · {}{}",
        model.name,
        size.as_deref().unwrap_or("not there"),
        path.as_deref().unwrap_or("fetched when it is loaded"),
        if model.is_configured {
            " · configured"
        } else {
            ""
        }
    )
}
