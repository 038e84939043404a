//! Where plugins are looked for, as arguments.

use std::path::PathBuf;

use clap::Args;
use tenon::plugin::RegistryOptions;

/// Where plugins are looked for.
#[derive(Args)]
pub struct Search {
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long = "plugins", value_name = "DIR")]
    directories: Vec<PathBuf>,
}

impl Search {
    pub fn options(self) -> anyhow::Result<RegistryOptions> {
        Ok(RegistryOptions::new(self.directories)?)
    }
}
