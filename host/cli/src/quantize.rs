//! `tenon quantize`

use std::{path::PathBuf, sync::atomic::Ordering};

use anyhow::{Context, bail};
use clap::Args;
use tenon::{
    models::{progress_bar, weight_warnings},
    plugin::{Registry, RegistryOptions},
    shutdown,
    system::cores,
};
use tenon_plugin_api::LoadArgs;

/// Write a model at another quantization level.
#[derive(Args)]
pub struct Quantize {
    /// The model's file or directory.
    input: PathBuf,
    /// The file or directory to write. It must not exist yet.
    output: PathBuf,
    /// The level, in any spelling: Q8_0, Q4K, q4_k_m, BF16.
    level: String,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The backend to use [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

impl Quantize {
    pub fn run(self) -> anyhow::Result<()> {
        shutdown::too_large_files_are_errors()?;
        if self.output.exists() {
            let output = self.output.display();
            bail!("{output} exists already: remove it, or write to another path");
        }
        let mut options = RegistryOptions::new(self.directories)?;
        options.models = vec![self.input.clone()];
        let registry = Registry::load(&options);
        let backend = registry.choose(&self.input, self.backend.as_deref())?;
        let (threads, warning) = cores::limit(self.threads.unwrap_or_else(cores::available));
        if let Some(warning) = warning {
            eprintln!("warning: {warning}");
        }
        let args = LoadArgs {
            path: self.input,
            quantize: Some(self.level),
            threads,
            options: "{}".to_owned(),
            ..LoadArgs::default()
        };
        let stop = shutdown::flag()?;
        let bar = progress_bar("quantizing".to_owned());
        let progress = {
            let bar = bar.clone();
            Box::new(move |fraction: Option<f32>, _: &str| {
                bar.set_position((fraction.unwrap_or(0.0) * 100.0) as u64);
                !stop.load(Ordering::Relaxed)
            })
        };
        let written = backend.quantize(&args, &self.output, progress);
        bar.finish_and_clear();
        let written = written.with_context(|| format!("cannot write {}", self.output.display()))?;
        for warning in weight_warnings(&written) {
            eprintln!("warning: {warning}");
        }
        println!(
            "{} at {}, {} bytes of weights",
            self.output.display(),
            written.quantization,
            written.weight_bytes
        );
        Ok(())
    }
}
