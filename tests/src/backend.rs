//! Plugins loaded into the test's own process, past server and engine.

use std::path::Path;

use tempfile::TempDir;
use tenon::plugin::{Model, Registry, RegistryOptions};
use tenon_plugin_api::LoadArgs;

use crate::artifacts;

/// A model, as one plugin loads it.
pub struct LoadedModel {
    pub model: Model,
    _plugins: TempDir,
}

impl LoadedModel {
    /// Loads a file or directory on one thread, with the library of this name and the model options in `json`.
    pub fn new(library: &str, path: &Path, json: &str) -> Self {
        let plugins = TempDir::new().expect("a temporary directory");
        let link = plugins.path().join("plugin.so");
        std::os::unix::fs::symlink(artifacts().library(library), link).expect("a link");
        let options = RegistryOptions {
            executable: artifacts().tenon.clone(),
            ..RegistryOptions::new(vec![plugins.path().into()]).expect("options")
        };
        let registry = Registry::load(&options);
        let args = LoadArgs {
            path: path.into(),
            threads: 1,
            options: json.into(),
            ..LoadArgs::default()
        };
        // Where the library is refused, this says why.
        let backend = registry.choose(path, None);
        let backend = backend.unwrap_or_else(|error| panic!("{error}"));
        let model = backend.load(&args, Box::new(|_, _| true));
        Self {
            model: model.unwrap_or_else(|error| panic!("{library}: {error}")),
            _plugins: plugins,
        }
    }
}
