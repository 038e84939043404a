//! `tenon config …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tenon::{
    config::{self, ConfigError},
    models::wrong_options,
};
use tenon_hub::{HubSettings, HuggingFace};

/// Check configuration files, and print their JSON Schema for editors.
#[derive(Subcommand)]
pub enum Config {
    Check(Check),
    /// Print the JSON Schema of configuration files.
    Schema,
}

/// Check a configuration file, and print everything that is wrong with it, or what it means for clients. Options are checked with the
/// plugins that are installed.
#[derive(Args)]
pub struct Check {
    /// The configuration file. Environment variables and other files do not count.
    file: PathBuf,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => check.run(),
            Self::Schema => {
                println!("{}", config::schema_text());
                Ok(())
            }
        }
    }
}

impl Check {
    fn run(self) -> anyhow::Result<()> {
        let config = config::check(&self.file)?;
        let problems = wrong_options(&config, &HuggingFace::new(HubSettings::of_process()))?;
        if !problems.is_empty() {
            let file = self.file.display();
            let problems = problems.iter().map(|problem| format!("{file}: {problem}"));
            return Err(ConfigError {
                problems: problems.collect(),
            }
            .into());
        }
        let models = config.models.len();
        let plural = if models == 1 { "" } else { "s" };
        println!("{}: ok ({models} model{plural})", self.file.display());
        for line in config.explained() {
            println!("  {line}");
        }
        Ok(())
    }
}
