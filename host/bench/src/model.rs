//! The model to measure, and the arguments that all benches of a backend share.

use std::path::PathBuf;

use clap::Args;
use tenon::{
    plugin::{Model, Registry, RegistryOptions},
    system::cores,
};
use tenon_plugin_api::{Code, Error, LoadArgs};

/// Longest text, in tokens or words.
pub const MAX_TOKENS: i64 = 1 << 20;
/// Most clients, sequences or prompts at the same time.
pub const MAX_PARALLEL: i64 = 4096;

/// The model to load, and how.
#[derive(Args)]
pub struct ModelArgs {
    /// The model's file or directory.
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The backend to use [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// Level to quantize the model to while loading [default: the level of the file].
    #[arg(long, value_name = "LEVEL")]
    quantize: Option<String>,
    /// The model's options for this backend, as in the configuration.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    options: String,
    /// Threads that compute [default: all cores].
    #[arg(
        short,
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    threads: u32,
}

/// A loaded model, without a server around it.
pub struct BenchModel {
    pub model: Model,
    /// The id of the backend that loaded it.
    pub backend: String,
    pub threads: u32,
}

impl ModelArgs {
    pub fn load(&self) -> anyhow::Result<BenchModel> {
        let mut options = RegistryOptions::new(self.directories.clone())?;
        if self.threads > 0 {
            let (threads, warning) = cores::limit(self.threads);
            if let Some(warning) = warning {
                eprintln!("warning: {warning}");
            }
            options.threads = threads;
        }
        options.models = vec![self.path.clone()];
        let registry = Registry::load(&options);
        let backend = registry.choose(&self.path, self.backend.as_deref())?;
        let args = LoadArgs {
            path: self.path.clone(),
            quantize: self.quantize.clone(),
            threads: options.threads,
            options: self.options.clone(),
            ..LoadArgs::default()
        };
        Ok(BenchModel {
            model: backend.load(&args, Box::new(|_, _| true))?,
            backend: backend.descriptor().id.clone(),
            threads: options.threads,
        })
    }
}

/// Turns the status of a span or sample into a result.
pub fn check(status: Code) -> Result<(), Error> {
    match status {
        Code::OK => Ok(()),
        code => Err(Error::new(code, format!("the backend failed: {code:?}"))),
    }
}
