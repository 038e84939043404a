//! Merges the layers, and remembers where each value came from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider, Source,
    providers::{Format, Toml},
    util,
    value::{Dict, Map, Value},
};
use serde::de::DeserializeOwned;

use super::{ConfigError, Flags, environment::Environment, sentences::sentence};

/// The merged values of file, environment and flags. The raw types provide the defaults.
pub struct Layers {
    figment: Figment,
    values: Value,
    /// The directory that relative paths in the file start from.
    directory: PathBuf,
}

impl Layers {
    pub fn new(
        file: Option<&Path>,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        let mut problems = Vec::new();
        let layers = file.map(Layer::of_file).into_iter();
        for layer in layers.chain(environment.layers()).chain(flags.layers()) {
            match layer {
                Ok(layer) => figment = figment.merge(layer),
                Err(problem) => problems.push(problem),
            }
        }
        ConfigError::unless_empty(problems)?;
        let values = figment.find_value("").map_err(|error| ConfigError {
            problems: vec![error.to_string()],
        })?;
        let directory = file.and_then(Path::parent).unwrap_or(Path::new(""));
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
            problems.push(sentence(&error, self));
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

    fn of_file(file: &Path) -> Result<Self, String> {
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
fn toml_key(key: &[&str]) -> String {
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
