//! `tenon models show`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use tenon::{
    config::{Flags, ModelPath, Source},
    hub::{Hub, HubModel},
    plugin::{Registry, RegistryOptions},
    system::cores,
};
use tenon_hub::{HubSettings, HuggingFace};
use tenon_plugin_api::{Estimate, LoadArgs, SessionArgs};

use super::facts::Facts;

/// Print a model's architecture, size, quantization and context length, whether it can chat, which backend would load it and why
/// the others would not, and how much memory it takes.
#[derive(Args)]
pub struct Show {
    /// A file or directory, a model on the Hugging Face Hub that was fetched (hf:OWNER/REPO…), or a model's name in the configuration.
    #[arg(value_name = "MODEL")]
    model: String,
    /// The configuration file [default: ./tenon.toml, then $XDG_CONFIG_HOME/tenon/tenon.toml, else none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The sequences and the tokens of a batch that an estimate is for: the server's defaults.
const SESSION: (u32, u32) = (32, 512);

/// All that is printed.
#[derive(Serialize)]
struct ShownModel {
    path: PathBuf,
    #[serde(flatten)]
    facts: Facts,
    backends: Vec<Opinion>,
    /// Memory that the best backend takes. None: no backend loads the model, or it gives no estimates.
    memory: Option<Vec<DeviceMemory>>,
}

/// A backend's opinion of the model.
#[derive(Serialize)]
struct Opinion {
    id: String,
    /// 0 to 100. 0: it cannot load the model.
    score: u32,
    why: String,
}

/// Memory on one device.
#[derive(Serialize)]
struct DeviceMemory {
    device: String,
    /// Weights, scratch space, and the part of each sequence's memory that does not depend on its length.
    fixed_bytes: u64,
    kv_bytes_per_token: u64,
    /// All memory, with a KV pool for one sequence of the whole context length.
    full_context_bytes: Option<u64>,
}

impl Show {
    pub fn run(self) -> anyhow::Result<()> {
        let path = self.path()?;
        std::fs::metadata(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut options = RegistryOptions::new(self.directories)?;
        options.models = vec![path.clone()];
        let registry = Registry::load(&options);
        let facts = Facts::of(&path)?;
        let memory = memory(&registry, &path, facts.context_length)?;
        let shown = ShownModel {
            backends: opinions(&registry, &path),
            memory,
            facts,
            path,
        };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&shown)?),
            false => print_text(&shown),
        }
        Ok(())
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        let (text, hub) = (&self.model, HuggingFace::new(HubSettings::of_process()));
        if HubModel::is_meant(text) {
            let model: HubModel = text.parse().map_err(|error| anyhow!("the model {error}"))?;
            let found = hub.cache().find(&model);
            return found.map_err(|why| {
                anyhow!(
                    "{model} is not in {} ({why}): fetch it with `tenon pull {model}`",
                    hub.cache().place()
                )
            });
        }
        let source = Source::new(self.config.clone(), Flags::default());
        if Path::new(text).exists() || source.file().is_none() {
            return Ok(text.into());
        }
        let models = source.load()?.models;
        match models
            .into_iter()
            .find(|model| model.id == *text)
            .map(|model| model.path)
        {
            Some(ModelPath::Local(path)) => Ok(path),
            Some(ModelPath::Hub(on_hub)) => hub.cached(&on_hub).with_context(|| {
                format!("{text} was not fetched so far: fetch it with `tenon pull {on_hub}`")
            }),
            None => {
                bail!("{text} is neither a file nor a model of the configuration: check the name")
            }
        }
    }
}

fn opinions(registry: &Registry, path: &Path) -> Vec<Opinion> {
    let answers = registry.answers(path).into_iter();
    let mut opinions: Vec<_> = answers
        .map(|(plugin, answer)| {
            let (score, why) = answer.unwrap_or_else(|why| (0, why));
            Opinion {
                id: plugin.facts.id.clone(),
                score,
                why,
            }
        })
        .collect();
    opinions.sort_by_key(|opinion| std::cmp::Reverse(opinion.score));
    opinions
}

/// The estimates of the backend that fits best. None: no backend loads the model, or it gives no estimates.
fn memory(
    registry: &Registry,
    path: &Path,
    context_length: Option<u64>,
) -> anyhow::Result<Option<Vec<DeviceMemory>>> {
    let Ok(backend) = registry.choose(path, None) else {
        return Ok(None);
    };
    let (max_sequences, max_batch_tokens) = SESSION;
    let threads = cores::available();
    let load = LoadArgs {
        path: path.to_owned(),
        threads,
        options: "{}".to_owned(),
        ..LoadArgs::default()
    };
    let session = SessionArgs {
        max_sequences,
        max_batch_tokens,
        threads,
        ..SessionArgs::default()
    };
    let Ok(estimates) = backend.estimate(&load, &session) else {
        return Ok(None);
    };
    let memory = |estimate: Estimate| {
        let fixed_bytes = estimate.weight_bytes
            + estimate.compute_bytes
            + estimate.sequence_bytes * u64::from(max_sequences);
        let kv = estimate.kv_bytes_per_token;
        DeviceMemory {
            device: estimate.device,
            fixed_bytes,
            kv_bytes_per_token: kv,
            full_context_bytes: context_length
                .map(|tokens| fixed_bytes.saturating_add(kv.saturating_mul(tokens))),
        }
    };
    Ok(Some(estimates.into_iter().map(memory).collect()))
}

fn print_text(shown: &ShownModel) {
    let facts = &shown.facts;
    println!("{}", shown.path.display());
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let template = match (facts.has_chat_template, facts.tool_format) {
        (false, _) => "none".to_owned(),
        (true, None) => "yes".to_owned(),
        (true, Some(format)) => format!("yes, tools as {format}"),
    };
    let lines = [
        ("architecture", facts.architecture.clone()),
        ("parameters", number(facts.parameters)),
        (
            "size",
            facts.size_bytes.map(|bytes| HumanBytes(bytes).to_string()),
        ),
        ("types", Some(facts.quantization.join(", "))),
        ("context", number(facts.context_length)),
        ("template", Some(template)),
    ];
    for (what, value) in lines {
        let value = value.filter(|value| !value.is_empty());
        println!("  {what:<14}{}", value.as_deref().unwrap_or("not stated"));
    }
    for memory in shown.memory.iter().flatten() {
        println!("  {:<14}{}", "memory", memory.text());
    }
    println!("backends:");
    for (index, opinion) in shown.backends.iter().enumerate() {
        let verdict = match (opinion.score, index) {
            (0, _) => "cannot load it",
            (_, 0) => "loads it",
            _ => "could load it",
        };
        println!(
            "  {} {verdict} ({}): {}",
            opinion.id, opinion.score, opinion.why
        );
    }
    if shown.backends.is_empty() {
        println!("  none: put a plugin into a plugin directory");
    }
}

impl DeviceMemory {
    fn text(&self) -> String {
        let (fixed, token) = (
            HumanBytes(self.fixed_bytes),
            HumanBytes(self.kv_bytes_per_token),
        );
        let full = self
            .full_context_bytes
            .map(|bytes| format!("; {} with one whole context", HumanBytes(bytes)));
        format!(
            "{}: {fixed} and {token} for each token{}",
            self.device,
            full.unwrap_or_default()
        )
    }
}
