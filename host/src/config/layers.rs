//! Merges the layers, and remembers where each value came from.

use std::path::{Path, PathBuf};

use figment::{Figment, Metadata, Source, value::Value};
use serde::de::DeserializeOwned;

use super::{error::ConfigError, layer::Layer, sentences::sentence};

/// The merged values of file, environment and flags. The raw types provide the defaults.
pub struct Layers {
    figment: Figment,
    values: Value,
    /// The directory that relative paths in the file start from.
    directory: PathBuf,
}

impl Layers {
    /// Merges layers. Later ones override earlier ones. Relative paths in the file start from `directory`.
    pub fn merge(
        layers: impl Iterator<Item = Result<Layer, String>>,
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        let mut problems = Vec::new();
        for layer in layers {
            match layer {
                Ok(layer) => figment = figment.merge(layer),
                Err(problem) => problems.push(problem),
            }
        }
        ConfigError::unless_empty(problems)?;
        let values = figment.find_value("").map_err(|error| ConfigError {
            problems: vec![error.to_string()],
        })?;
        Ok(Self {
            figment,
            values,
            directory: directory.into(),
        })
    }

    /// Deserializes all values. A refused value is removed and the rest is tried again, so that all mistakes are reported
    /// at once.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut values = self.values.clone();
        let mut problems = Vec::new();
        loop {
            let error = match values.deserialize() {
                Ok(value) => return ConfigError::unless_empty(problems).map(|()| value),
                Err(error) => error,
            };
            let key: Vec<&str> = error.path.iter().map(String::as_str).collect();
            problems.push(sentence(&error.kind, &key, &self.name(&key)));
            if !take_out(&mut values, &error.path) {
                return Err(ConfigError { problems });
            }
        }
    }

    /// The name of a key, as its author wrote it: `tenon.toml: "server.port"`, `--port`, `the environment variable …`.
    pub fn name(&self, key: &[&str]) -> String {
        let written = toml_key(key);
        let Some(metadata) = self.metadata(key) else {
            return format!("\"{written}\"");
        };
        match metadata.source.as_ref().and_then(Source::file_path) {
            Some(file) => format!("{}: \"{written}\"", file.display()),
            None => metadata.name.to_string(),
        }
    }

    /// Whether a value was written at `key`.
    pub fn has(&self, key: &[&str]) -> bool {
        let mut parts = key.iter();
        let inner = |value: &Value, part: &&str| value.as_dict()?.get(*part).cloned();
        parts
            .try_fold(self.values.clone(), |value, part| inner(&value, part))
            .is_some()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The layer of the value at `key`, or of the table that lacks this key. (figment's own search splits plugin ids at
    /// dots.)
    fn metadata(&self, key: &[&str]) -> Option<&Metadata> {
        let mut value = &self.values;
        for part in key {
            let inner = match value {
                Value::Dict(_, table) => table.get(*part),
                Value::Array(_, list) => part.parse().ok().and_then(|index: usize| list.get(index)),
                _ => None,
            };
            match inner {
                Some(inner) => value = inner,
                None => break,
            }
        }
        self.figment.get_metadata(value.tag())
    }
}

/// Removes the value at `key`, and returns whether it existed. For a value inside a list it removes the whole list, so that
/// other indices stay valid.
fn take_out(value: &mut Value, key: &[String]) -> bool {
    match (value, key) {
        (Value::Dict(_, table), [name, rest @ ..]) => {
            table
                .get_mut(name)
                .is_some_and(|inner| take_out(inner, rest))
                || table.remove(name).is_some()
        }
        (Value::Array(_, list), [index, rest @ ..]) => index
            .parse()
            .ok()
            .and_then(|index: usize| list.get_mut(index))
            .is_some_and(|inner| take_out(inner, rest)),
        _ => false,
    }
}

/// Writes a key as TOML does: `models[0].path`, `plugins.options."org.tenon.echo"`.
pub fn toml_key(key: &[&str]) -> String {
    let mut written = String::new();
    for part in key {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let dot = if written.is_empty() { "" } else { "." };
        written += &match part {
            index if index.parse::<usize>().is_ok() => format!("[{index}]"),
            bare if !bare.is_empty() && bare.bytes().all(is_bare) => format!("{dot}{bare}"),
            quoted => format!("{dot}\"{quoted}\""),
        };
    }
    written
}
