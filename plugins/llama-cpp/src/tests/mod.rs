//! Tests of the backend on a real model, through the traits that the host calls.

mod amx;
mod embedder;
mod files;
mod quantize;
mod session;
mod tokenizer;

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, LoadArgs, Result};

use crate::{
    cache::Cache,
    level_file::LevelFiles,
    log,
    model::{GgufModel, ModelLoader},
};

fn model_path() -> PathBuf {
    let home = std::env::var("HOME").expect("HOME is set");
    let path = Path::new(&home).join(".cache/tenon/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing: run `make test`",
        path.display()
    );
    path
}

fn backend() -> &'static Arc<LlamaBackend> {
    static BACKEND: OnceLock<Arc<LlamaBackend>> = OnceLock::new();
    BACKEND.get_or_init(|| {
        log::redirect();
        Arc::new(LlamaBackend::init().unwrap())
    })
}

/// A loader that keeps its quantized files in this directory.
fn loader(cache: &Path) -> Arc<ModelLoader> {
    Arc::new(ModelLoader {
        backend: Arc::clone(backend()),
        files: LevelFiles::new(Cache::new(cache.to_owned(), u64::MAX)),
        threads: 1,
    })
}

fn args(path: &Path) -> LoadArgs {
    LoadArgs {
        path: path.to_owned(),
        devices: vec!["cpu".into()],
        threads: 1,
        ..LoadArgs::default()
    }
}

fn load(path: &Path, report: impl Fn(f32) -> bool + Sync) -> Result<GgufModel> {
    let cancelled = || Error::new(Code::CANCELLED, "enough");
    let report = |fraction: Option<f32>, _: &str| match report(fraction.unwrap_or(0.0)) {
        true => Ok(()),
        false => Err(cancelled()),
    };
    let nothing_is_quantized = Path::new("/nonexistent");
    loader(nothing_is_quantized).load(&args(path), &report)
}

/// The model, loaded once for all tests of a process.
fn smol() -> &'static GgufModel {
    static MODEL: OnceLock<GgufModel> = OnceLock::new();
    MODEL.get_or_init(|| load(&model_path(), |_| true).unwrap())
}

/// Writes a GGUF file without tensors. `fill` sets its metadata.
fn write_gguf(path: &Path, fill: impl FnOnce(*mut sys::gguf_context)) {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the file is made, filled, written and freed here.
    let written = unsafe {
        let file = sys::gguf_init_empty();
        fill(file);
        let written = sys::gguf_write_to_file(file, name.as_ptr(), false);
        sys::gguf_free(file);
        written
    };
    assert!(written);
}
