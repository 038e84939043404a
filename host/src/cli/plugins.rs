//! `tenon plugins …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::plugin::{Backend, RefusedPlugin, Registry, RegistryOptions, probe};

/// Look at plugins.
#[derive(Subcommand)]
pub enum Plugins {
    List(List),
    /// Load one library, say what it is, and end. The host runs this in a child process.
    #[command(hide = true)]
    Probe {
        file: PathBuf,
    },
}

/// List the plugins that can be used, and why other files in the plugin directories cannot.
#[derive(Args)]
pub struct List {
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print all that is known about files that cannot be used.
    #[arg(long)]
    verbose: bool,
}

impl Plugins {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Probe { file } => Ok(probe::run(&file)?),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let registry = Registry::load(&RegistryOptions::new(self.directories)?);
        if self.json {
            println!("{:#}", to_json(&registry));
        } else {
            print_text(&registry, self.verbose);
        }
        Ok(())
    }
}

fn to_json(registry: &Registry) -> Value {
    let backends = registry
        .backends()
        .iter()
        .map(|backend| backend_json(backend));
    json!({
        "backends": backends.collect::<Vec<_>>(),
        "refused": registry.refused(),
        "warnings": registry.warnings(),
    })
}

fn backend_json(backend: &Backend) -> Value {
    let descriptor = backend.descriptor();
    let devices = backend.devices().unwrap_or_default();
    json!({
        "id": descriptor.id,
        "name": descriptor.name,
        "version": descriptor.version,
        "vendor": descriptor.vendor,
        "license": descriptor.license,
        "build": descriptor.build,
        "abi": backend.abi().to_string(),
        "path": backend.path(),
        "devices": devices.into_iter().map(|device| device.id).collect::<Vec<_>>(),
    })
}

fn print_text(registry: &Registry, verbose: bool) {
    for backend in registry.backends() {
        let descriptor = backend.descriptor();
        println!(
            "{} {} · {} · ABI {} · {}",
            descriptor.id,
            descriptor.version,
            descriptor.name,
            backend.abi(),
            backend.path().display()
        );
    }
    for RefusedPlugin {
        reason, details, ..
    } in registry.refused()
    {
        println!("refused: {reason}");
        if verbose && !details.is_empty() {
            println!("{}", details.trim_end());
        }
    }
    for warning in registry.warnings() {
        eprintln!("warning: {warning}");
    }
}
