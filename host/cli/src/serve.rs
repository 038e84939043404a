//! `tenon serve`

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use tenon::config::{Flags, Source, Threads};
use tenon_hub::{HubSettings, HuggingFace};

/// Serve models over HTTP.
#[derive(Args)]
pub struct Serve {
    /// A model's file or directory, or a model on the Hugging Face Hub (see `tenon pull`), which is fetched first. Served instead of the
    /// models in the configuration.
    model_path: Option<PathBuf>,
    /// The configuration file [default: ./tenon.toml, then $XDG_CONFIG_HOME/tenon/tenon.toml, else none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen at [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Port to listen at, 0 for any free one [default: 8080].
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// The backend for the model [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// Name of the model in requests [default: the name of the file or repository].
    #[arg(long, value_name = "NAME")]
    model_id: Option<String>,
    /// Threads that compute, or "auto": as many as are fastest [default: auto].
    #[arg(long, value_name = "N")]
    threads: Option<Threads>,
}

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        let flags = Flags {
            model_path: self.model_path,
            host: self.host,
            port: self.port,
            plugin_directories: self.plugins,
            backend: self.backend,
            model_id: self.model_id,
            threads: self.threads,
        };
        let hub = Arc::new(HuggingFace::new(HubSettings::of_process()));
        tenon::serve(Source::new(self.config, flags), hub)
    }
}
