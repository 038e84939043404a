//! A model for tests, as every backend reads it.

use tempfile::TempDir;

use crate::{Backend, LoadedModel, models::TestModel};

/// A model in both formats.
pub struct ModelFiles {
    folder: TempDir,
}

impl ModelFiles {
    pub fn write(model: &TestModel) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        model.write_gguf(&folder.path().join("model.gguf"));
        model.write_dir(&folder.path().join("model"));
        Self { folder }
    }

    /// In f32 throughout.
    pub fn load(&self, backend: Backend) -> LoadedModel {
        let name = match backend {
            Backend::LlamaCpp | Backend::CandleQuantized => "model.gguf",
            Backend::Candle => "model",
        };
        backend.load(&self.folder.path().join(name), &backend.exact())
    }
}
