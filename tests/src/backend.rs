//! The backends with real models, and how to load their models into the test's own process, without server and engine.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon::plugin::{self, Model, Registry, RegistryOptions};
use tenon_plugin_api::LoadArgs;

use crate::{Client, Server, ServerOptions, artifacts, models, smollm2};

/// A backend with real models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    LlamaCpp,
    /// GGUF files.
    CandleQuantized,
    /// Hugging Face directories.
    Candle,
}

impl Backend {
    pub const ALL: [Self; 3] = [Self::LlamaCpp, Self::CandleQuantized, Self::Candle];

    /// The name of the backend's library.
    pub fn library(self) -> &'static str {
        match self {
            Self::LlamaCpp => "tenon_plugin_llama_cpp",
            Self::CandleQuantized => "tenon_plugin_candle_quantized",
            Self::Candle => "tenon_plugin_candle",
        }
    }

    /// The backend's id.
    pub fn id(self) -> &'static str {
        match self {
            Self::LlamaCpp => "org.tenon.llama-cpp",
            Self::CandleQuantized => "org.tenon.candle-quantized",
            Self::Candle => "org.tenon.candle",
        }
    }

    /// SmolLM2 in the form that the backend reads.
    pub fn smollm2(self) -> PathBuf {
        match self {
            Self::LlamaCpp | Self::CandleQuantized => smollm2(),
            Self::Candle => models::smollm2_f32_dir(),
        }
    }

    /// A server of SmolLM2 through this backend, on one thread. `lines` are added to the model's configuration.
    pub fn serve_smollm2(self, lines: &str) -> (Server, Client) {
        let config = format!(
            "[engine]\nthreads = 1\n[[models]]\npath = {:?}\n{lines}",
            self.smollm2()
        );
        let options = ServerOptions::new(&[self.library()]);
        let mut server = options.config(&config).start();
        let client = server.client();
        (server, client)
    }

    /// Model options with which the backend computes in f32 wherever it can.
    pub fn exact(self) -> Value {
        match self {
            Self::LlamaCpp => json!({"kv_type": "f32", "flash_attention": "off"}),
            Self::CandleQuantized => json!({"kv_type": "f32"}),
            Self::Candle => json!({"kv_type": "f32", "dtype": "f32"}),
        }
    }

    /// The backend's plugin, started in the test's own process.
    pub fn open(self) -> Arc<plugin::Backend> {
        let plugins = self.plugins();
        let registry = registry(&plugins, Vec::new());
        let plugin = registry.choose(Path::new(""), Some(self.id()));
        // If the library is refused, the panic says why.
        plugin.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Loads a file or directory on one thread.
    pub fn load(self, path: &Path, options: &Value) -> LoadedModel {
        let plugins = self.plugins();
        let registry = registry(&plugins, vec![path.into()]);
        let args = LoadArgs {
            path: path.into(),
            threads: 1,
            options: options.to_string(),
            ..LoadArgs::default()
        };
        // If the library is refused, the panic says why.
        let plugin = registry.choose(path, None);
        let plugin = plugin.unwrap_or_else(|error| panic!("{error}"));
        let model = plugin.load(&args, Box::new(|_, _| true));
        LoadedModel {
            model: model.unwrap_or_else(|error| panic!("{self:?}: {error}")),
            plugins: Arc::new(plugins),
        }
    }

    /// A directory with only this backend's library.
    fn plugins(self) -> TempDir {
        let plugins = TempDir::new().expect("a temporary directory");
        let link = plugins.path().join("plugin.so");
        std::os::unix::fs::symlink(artifacts().library(self.library()), link).expect("a link");
        plugins
    }
}

fn registry(plugins: &TempDir, models: Vec<PathBuf>) -> Registry {
    Registry::load(&RegistryOptions {
        executable: artifacts().tenon.clone(),
        threads: 1,
        cache: plugins.path().into(),
        models,
        ..RegistryOptions::new(vec![plugins.path().into()]).expect("options")
    })
}

/// A model that a plugin loaded.
pub struct LoadedModel {
    pub model: Model,
    plugins: Arc<TempDir>,
}

impl LoadedModel {
    /// The same model at another quantization level.
    pub fn at(&self, level: &str) -> Self {
        let model = self.model.requantize(level, Box::new(|_, _| true));
        Self {
            model: model.unwrap_or_else(|error| panic!("{level}: {error}")),
            plugins: self.plugins.clone(),
        }
    }
}
