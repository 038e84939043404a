//! `tenon config …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tenon::config::{self, ConfigError};

/// Check configuration files, and print their JSON Schema for editors.
#[derive(Subcommand)]
pub enum Config {
    Check(Check),
    /// Print the JSON Schema of configuration files.
    Schema,
}

/// Check a configuration file, and print everything that is wrong with it.
#[derive(Args)]
pub struct Check {
    /// The configuration file. Environment variables and other files do not count.
    file: PathBuf,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => Ok(check.run()?),
            Self::Schema => {
                println!("{}", config::schema_text());
                Ok(())
            }
        }
    }
}

impl Check {
    fn run(self) -> Result<(), ConfigError> {
        let models = config::check(&self.file)?.models.len();
        let plural = if models == 1 { "" } else { "s" };
        println!("{}: ok ({models} model{plural})", self.file.display());
        Ok(())
    }
}
