//! The flags of the command line.

use std::path::{Path, PathBuf, absolute};

use figment::{
    util::map,
    value::{Dict, Value},
};

use super::{Threads, layer::Layer};
use crate::hub::HubModel;

/// The flags of the command line. Relative paths start at the working directory.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Served instead of the file's models. A path, or the name of a model on the hub.
    pub model_path: Option<PathBuf>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// Empty if not given.
    pub plugin_directories: Vec<PathBuf>,
    /// For a configuration with only one model.
    pub backend: Option<String>,
    /// For a configuration with only one model.
    pub model_id: Option<String>,
    /// For every model.
    pub threads: Option<Threads>,
}

impl Flags {
    /// A layer for each flag that replaces a value. The other flags change models and are applied to those.
    pub fn layers(&self) -> impl Iterator<Item = Result<Layer, String>> {
        let layer = |flag: &str, key, value| Ok(Layer::of_value(flag.into(), key, value));
        let host = self.host.as_deref();
        let host = host.map(|host| layer("--host", "server.host", host.into()));
        let port = self
            .port
            .map(|port| layer("--port", "server.port", port.into()));
        let directories = (!self.plugin_directories.is_empty()).then(|| {
            let paths: Result<Vec<_>, _> = self
                .plugin_directories
                .iter()
                .map(|path| whole_path("--plugins", path))
                .collect();
            layer("--plugins", "plugins.directories", paths?.into())
        });
        let model = self.model_path.as_deref().map(|path| {
            let path = match path.to_str().filter(|text| HubModel::is_meant(text)) {
                Some(on_hub) => on_hub.to_owned(),
                None => whole_path("MODEL_PATH", path)?,
            };
            let model: Dict = map! { "path".to_owned() => path.into() };
            layer("MODEL_PATH", "models", Value::from(vec![model]))
        });
        let empty = self.for_one_model().filter(|(_, value)| value.is_empty());
        let empty = empty.map(|(flag, _)| Err(format!("{flag} must not be empty")));
        let replacing = [host, port, directories, model].into_iter().flatten();
        replacing.chain(empty)
    }

    /// The flags that concern a single model, with their values.
    pub fn for_one_model(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let backend = self
            .backend
            .iter()
            .map(|value| ("--backend", value.as_str()));
        let id = self
            .model_id
            .iter()
            .map(|value| ("--model-id", value.as_str()));
        backend.chain(id)
    }
}

fn whole_path(flag: &str, path: &Path) -> Result<String, String> {
    if path.as_os_str().is_empty() {
        return Err(format!("{flag} must not be empty"));
    }
    let whole = absolute(path).map_err(|error| format!("{flag} {}: {error}", path.display()))?;
    whole.into_os_string().into_string().map_err(|path| {
        format!(
            "{flag} {} has a name that is not UTF-8: rename it",
            path.display()
        )
    })
}
