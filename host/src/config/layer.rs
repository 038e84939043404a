//! A single layer of the configuration.

use std::{fs, path::Path};

use figment::{
    Metadata, Profile, Provider,
    providers::{Format, Toml},
    util,
    value::{Dict, Map, Value},
};

/// The values of one file, variable or flag.
pub struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Layer {
    /// The layer of a variable or flag. `name` is its name in messages; the parts of `key` have dots between them.
    pub fn of_value(name: String, key: &str, value: Value) -> Self {
        Self {
            metadata: Metadata::named(name),
            values: util::nest(key, value).into_dict().unwrap_or_default(),
        }
    }

    pub fn of_file(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let text = fs::read_to_string(file)
            .map_err(|error| format!("{name} cannot be read as a configuration file: {error}"))?;
        let values = Toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text
                .bytes()
                .take(start)
                .filter(|byte| *byte == b'\n')
                .count();
            format!("{name}:{line}: {}", error.message().replace('\n', ", "))
        })?;
        Ok(Self {
            metadata: Metadata::from("configuration file", file),
            values,
        })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}
