//! The llama.cpp backend: GGUF files, on the CPU and (with the features `cuda` and `vulkan`) on GPUs.
//!
//! - `level_file` finds the file of a level: the model's own file, or one that `quantize` made and `cache` keeps.
//!   `file_types` has the levels, and `estimate` the memory that a model takes.
//! - `gguf` reads headers: what a file contains, and whether it is complete. `finite` checks that weights are finite.
//! - `weights` is a loaded model and its facts, and `tokenizer` the vocabulary in its file. `model` loads a file, and makes
//!   tokenizers, sessions and embedders.
//! - `session` is one KV pool for many sequences. It checks each span against its ledger, hands the valid spans to llama.cpp
//!   as one `batch`, and rolls all of them back if that fails. `context` is the KV pool, and `threads` compute.
//! - `embedder` makes embeddings, in a context of its own. `pooled` makes those of encoders, and judges texts with
//!   cross-encoders. Encoders generate no text, and have no session.
//! - `cpu` refuses a build for newer CPUs, `shim` catches C++ exceptions, and `log` is llama.cpp's log.
//!
//! The crate llama-cpp-2 provides the backend, the model and the vocabulary. Its context hides thread pools and the abort
//! callback, so contexts come from llama-cpp-sys-2.

mod batch;
mod cache;
mod context;
mod cpu;
mod devices;
mod embedder;
mod estimate;
mod file_types;
mod finite;
mod gguf;
mod level_file;
mod log;
mod model;
mod options;
mod pooled;
mod quantize;
mod session;
mod shim;
mod threads;
mod tokenizer;
mod weights;

#[cfg(test)]
mod tests;

use std::{ffi::CStr, path::Path, sync::Arc};

use llama_cpp_2::llama_backend::LlamaBackend;
use tenon_plugin_api::{
    Backend, Code, Descriptor, Device, Error, Estimate, Host, LoadArgs, Model, ModelInfo, Progress,
    Result, SessionArgs, Support, export_plugin,
};

use crate::{
    cache::Cache,
    level_file::LevelFiles,
    model::ModelLoader,
    options::{Options, PluginOptions},
};

/// The plugin, with llama.cpp initialized.
struct LlamaCpp(Arc<ModelLoader>);

export_plugin!(LlamaCpp);

impl Backend for LlamaCpp {
    fn descriptor() -> Descriptor {
        // SAFETY: both return constants.
        let (llama, ggml) = unsafe {
            (
                CStr::from_ptr(llama_cpp_sys_2::llama_version()),
                CStr::from_ptr(llama_cpp_sys_2::ggml_version()),
            )
        };
        let (llama, ggml) = (llama.to_string_lossy(), ggml.to_string_lossy());
        let (id, version) = ("org.tenon.llama-cpp", env!("CARGO_PKG_VERSION"));
        let mut descriptor = Descriptor::new(id, "llama.cpp", version)
            .with_options::<PluginOptions>()
            .with_model_options::<Options>()
            .with_levels(file_types::made());
        descriptor.vendor = "Tenon".into();
        descriptor.license = env!("CARGO_PKG_LICENSE").into();
        descriptor.build = format!("llama.cpp {llama}, ggml {ggml}");
        descriptor
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        cpu::check()?;
        let options = tenon_plugin_api::options::read::<PluginOptions>(options)?;
        log::install(host.clone());
        let (backend, _) = log::with_reason(LlamaBackend::init);
        let backend = backend.map_err(|error| {
            Error::new(
                Code::INTERNAL,
                format!("llama.cpp cannot be started: {error}"),
            )
        })?;
        let cache = Cache::new(host.cache_dir().join("quantized"), options.max_cache_bytes);
        Ok(Self(Arc::new(ModelLoader {
            backend: Arc::new(backend),
            files: LevelFiles::new(cache),
            threads: host.threads(),
        })))
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(devices::list())
    }

    /// The score is higher with a GPU: on a CPU another backend may be faster.
    fn supports(&self, path: &Path) -> Support {
        let score = if devices::has_gpu() { 95 } else { 80 };
        match gguf::read_model(path) {
            Ok(header) => Support::yes(score, format!("a GGUF file ({})", header.architecture)),
            Err(error) => Support::no(error.message),
        }
    }

    fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        estimate::estimate(load, session)
    }

    fn quantize(&self, args: &LoadArgs, output: &Path, progress: &Progress) -> Result<ModelInfo> {
        let report = |fraction, message: &str| progress.report(fraction, message);
        level_file::write(args, output, self.0.threads(args.threads), &report)
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        let report = |fraction, message: &str| progress.report(fraction, message);
        Ok(Box::new(self.0.load(args, &report)?))
    }
}
