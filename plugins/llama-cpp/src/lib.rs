//! The llama.cpp backend: GGUF files, on the CPU and (with the features `cuda` and `vulkan`) on GPUs.
//!
//! - `gguf` reads headers: what a file is, and whether it is whole.
//! - `model` loads a file and knows its facts; `tokenizer` is the vocabulary in it.
//! - `session` is one KV pool for many sequences: it checks each span against its book, hands the rest to llama.cpp as one
//!   `batch`, and takes everything back if that fails. `context` is the pool, `threads` compute.
//! - `shim` catches what C++ throws; `log` is llama.cpp's log.
//!
//! llama-cpp-2 serves for the backend, the model and the vocabulary. Its context hides thread pools and the abort callback,
//! so contexts are llama-cpp-sys-2's.

mod batch;
mod context;
mod devices;
mod gguf;
mod log;
mod model;
mod options;
mod session;
mod shim;
mod threads;
mod tokenizer;

#[cfg(test)]
mod tests;

use std::{ffi::CStr, path::Path};

use llama_cpp_2::llama_backend::LlamaBackend;
use tenon_plugin_api::{
    Backend, Code, Descriptor, Device, Error, Host, LoadArgs, Model, Progress, Result, Support,
    export_plugin,
};

/// llama.cpp, started.
struct LlamaCpp {
    backend: LlamaBackend,
    host: Host,
}

export_plugin!(LlamaCpp);

impl Backend for LlamaCpp {
    fn descriptor() -> Descriptor {
        // SAFETY: llama.cpp returns a constant.
        let version = unsafe { CStr::from_ptr(llama_cpp_sys_2::llama_version()) };
        Descriptor {
            vendor: "Tenon".into(),
            license: env!("CARGO_PKG_LICENSE").into(),
            build: format!("llama.cpp {}", version.to_string_lossy()),
            ..Descriptor::new(
                "org.tenon.llama-cpp",
                "llama.cpp",
                env!("CARGO_PKG_VERSION"),
            )
        }
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        options::check_plugin_options(options)?;
        log::install(host.clone());
        let (backend, _) = log::with_reason(LlamaBackend::init);
        let backend = backend.map_err(|error| {
            Error::new(
                Code::INTERNAL,
                format!("llama.cpp cannot be started: {error}"),
            )
        })?;
        Ok(Self { backend, host })
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(devices::list())
    }

    fn supports(&self, path: &Path) -> Support {
        match gguf::read_model(path) {
            Ok(header) => Support::yes(80, format!("a GGUF file ({})", header.architecture)),
            Err(error) => Support::no(error.message),
        }
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        let threads = match args.threads {
            0 => self.host.threads(),
            threads => threads,
        };
        let message = format!("loading {}", args.path.display());
        let progress: *const Progress = progress;
        let report = move |fraction| {
            // SAFETY: `load` drops the closure before it returns, and `progress` lives as long as this call.
            unsafe { &*progress }
                .report(Some(fraction), &message)
                .is_ok()
        };
        Ok(Box::new(model::load(&self.backend, args, threads, report)?))
    }
}
