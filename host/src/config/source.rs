//! Where a configuration comes from.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Flags, environment::Environment, load_from};

const NO_MODEL: &str = "there is no model to serve: give one (tenon serve MODEL.gguf), its name on Hugging Face (tenon serve hf:OWNER/REPO), \
                        or a configuration with [[models]] (tenon serve --config FILE)";

/// Where the configuration of a server comes from. It can be read again later.
pub struct Source {
    file: Option<PathBuf>,
    environment: Environment,
    flags: Flags,
}

impl Source {
    /// The named file, under the environment of the process and these flags. Without a name it is `./tenon.toml`, else
    /// `$XDG_CONFIG_HOME/tenon/tenon.toml`, else none.
    pub fn new(file: Option<PathBuf>, flags: Flags) -> Self {
        let environment = Environment::of_process();
        Self {
            file: file.or_else(|| environment.find_file(Path::new("."))),
            environment,
            flags,
        }
    }

    /// The configuration file. None if there is none.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the configuration as it is now.
    ///
    /// # Errors
    /// Everything that is wrong with it. A configuration without models is wrong too.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let config = self.load_even_without_models()?;
        let is_empty = config.models.is_empty() && config.folders.is_empty();
        let problems = is_empty.then(|| NO_MODEL.to_owned());
        ConfigError::unless_empty(problems.into_iter().collect())?;
        Ok(config)
    }

    /// Reads the configuration as it is now. It need not have models.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_even_without_models(&self) -> Result<Config, ConfigError> {
        load_from(self.file(), &self.environment, &self.flags)
    }
}
