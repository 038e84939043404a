//! A test model in the formats of all backends.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::{Backend, LoadedModel, models::TestModel};

/// The files of a model in both formats.
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

    /// The file or directory that a backend reads.
    pub fn path(&self, backend: Backend) -> PathBuf {
        let name = match backend {
            Backend::LlamaCpp | Backend::CandleQuantized => "model.gguf",
            Backend::Candle => "model",
        };
        self.folder.path().join(name)
    }

    /// Loads the model. The backend computes in f32 wherever it can.
    pub fn load(&self, backend: Backend) -> LoadedModel {
        backend.load(&self.path(backend), &backend.exact())
    }
}
