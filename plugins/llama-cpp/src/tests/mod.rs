//! The backend on a real model, through the traits that the host calls.

mod files;
mod session;
mod tokenizer;

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{LoadArgs, Result};

use crate::{
    log,
    model::{self, GgufModel},
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

fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        log::redirect();
        LlamaBackend::init().unwrap()
    })
}

fn load(path: &Path, report: impl FnMut(f32) -> bool + 'static) -> Result<GgufModel> {
    let args = LoadArgs {
        path: path.to_owned(),
        devices: vec!["cpu".into()],
        ..LoadArgs::default()
    };
    model::load(backend(), &args, 1, report)
}

/// One load for all tests of a process.
fn smol() -> &'static GgufModel {
    static MODEL: OnceLock<GgufModel> = OnceLock::new();
    MODEL.get_or_init(|| load(&model_path(), |_| true).unwrap())
}

/// Writes a GGUF file without tensors, with what `fill` puts in.
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
