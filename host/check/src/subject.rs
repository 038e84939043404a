//! The subject of a check: a plugin and its model.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use tenon::plugin::{
    self, Backend, Cpu, ElfError, LoadError, Model, Plugin, check_file, start_plugin,
};
use tenon_plugin_api::{LoadArgs, Result};

use crate::finding::{Checked, Finding};

/// Threads that the plugin may use.
pub const THREADS: u32 = 2;

/// The plugin that is checked, and the model that it is checked with.
pub struct Subject {
    pub file: PathBuf,
    pub model: Option<PathBuf>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Subject {
    /// The open file.
    fn library(&self) -> Checked<File> {
        let opened = File::open(&self.file);
        opened.map_err(|error| {
            let sentence = format!("the file cannot be read ({error}): check its permissions");
            Finding::failed(sentence).of("file/whole")
        })
    }

    /// The open file, in which the server finds no fault.
    pub fn sound(&self) -> Checked<File> {
        let library = self.library()?;
        check_file(&library, &Cpu::detect()).map_err(|error| {
            let case = match error {
                ElfError::NoPlugin => "file/exports-loader-only",
                ElfError::SharedBackendLibrary { .. } => "file/no-shared-ggml",
                ElfError::OtherC { .. } => "open/abi-agrees",
                ElfError::Aborts => "open/unwinds",
                _ => "file/whole",
            };
            Finding::failed(format!("it {error}")).of(case)
        })?;
        Ok(library)
    }

    /// The open library, whose backend is not started. Its file is checked first, because a damaged one would end the process.
    pub fn open(&self) -> Checked<Plugin> {
        Plugin::open(self.sound()?).map_err(|error| {
            let case = match error {
                LoadError::Id(_) => "open/id-valid",
                _ => "open/abi-agrees",
            };
            Finding::failed(format!("it {error}")).of(case)
        })
    }

    /// The backend, started without options.
    pub fn backend(&self) -> Checked<Arc<Backend>> {
        let backend = self.start("{}")?;
        backend.map_err(|why| Finding::failed(format!("it {why}")).of("init/starts"))
    }

    /// Starts the backend with these options. The inner error is its refusal.
    pub fn start(&self, options: &str) -> Checked<std::result::Result<Arc<Backend>, String>> {
        drop(self.open()?);
        let cache = std::env::temp_dir().join("tenon-plugins-check");
        Ok(start_plugin(self.library()?, THREADS, &cache, options))
    }

    /// The path of the model.
    pub fn model_path(&self) -> Checked<&Path> {
        let model = self.model.as_deref();
        model.ok_or_else(|| Finding::skipped("it needs a model: give --model"))
    }

    /// The loaded model.
    pub fn load(&self, backend: &Backend) -> Checked<Model> {
        let model = load(backend, self.model_path()?);
        model.map_err(|error| {
            let sentence = format!("the model does not load ({error})");
            Finding::failed(sentence).of("info/consistent")
        })
    }
}

/// Loads a model without cancelling it.
pub fn load(backend: &Backend, path: &Path) -> Result<Model> {
    load_reporting(backend, path, Box::new(|_, _| true))
}

/// Loads a model.
pub fn load_reporting(
    backend: &Backend,
    path: &Path,
    report: plugin::ReportProgress,
) -> Result<Model> {
    backend.load(&load_args(path), report)
}

/// Arguments without options for the model at a path.
pub fn load_args(path: &Path) -> LoadArgs {
    LoadArgs {
        path: path.into(),
        threads: THREADS,
        options: "{}".to_owned(),
        ..LoadArgs::default()
    }
}
