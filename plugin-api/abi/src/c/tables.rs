//! The tables of functions. Each begins with its size.

#![expect(missing_docs, reason = "tenon_plugin.h documents the fields")]

use std::{ffi::c_void, sync::atomic::AtomicU32};

use super::{
    Backend, Device, Embedder, EmbedderInfo, Error, Estimate, Host, LoadArgs, Meta, Model,
    ModelInfo, Progress, Session, SessionArgs, Sink, Str, Support, Token, Tokenizer, Tokens,
};
use crate::{Batch, KvStats, SampleRequest, Sampled, SessionInfoRecord, SpanOut, ThreadPlan};

/// `tenon_host_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostVtable {
    pub size: usize,
    pub log: Option<unsafe extern "C" fn(*mut c_void, u32, Str, Str)>,
    pub threads: Option<unsafe extern "C" fn(*mut c_void) -> u32>,
    pub cache_dir: Option<unsafe extern "C" fn(*mut c_void) -> Str>,
}

/// `tenon_progress_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProgressVtable {
    pub size: usize,
    pub report: Option<unsafe extern "C" fn(*mut c_void, f32, Str) -> u32>,
}

/// `tenon_session_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SessionVtable {
    pub size: usize,
    pub drop: Option<unsafe extern "C" fn(*mut c_void)>,
    pub info: Option<unsafe extern "C" fn(*mut c_void, *mut SessionInfoRecord)>,
    pub forward: Option<
        unsafe extern "C" fn(*mut c_void, *const Batch<'_>, *mut SpanOut, Sink<Error>) -> u32,
    >,
    pub logits: Option<unsafe extern "C" fn(*mut c_void, u32, *mut *const f32, Sink<Error>) -> u32>,
    pub sample: Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const SampleRequest<'_>,
            usize,
            *mut Sampled<'_>,
            Sink<Error>,
        ) -> u32,
    >,
    pub fork: Option<unsafe extern "C" fn(*mut c_void, u32, u32, u32, Sink<Error>) -> u32>,
    pub truncate: Option<unsafe extern "C" fn(*mut c_void, u32, u32, Sink<Error>) -> u32>,
    pub free: Option<unsafe extern "C" fn(*mut c_void, u32)>,
    pub kv_stats: Option<unsafe extern "C" fn(*mut c_void, *mut KvStats)>,
    pub set_threads:
        Option<unsafe extern "C" fn(*mut c_void, *const ThreadPlan, Sink<Error>) -> u32>,
}

/// `tenon_tokenizer_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TokenizerVtable {
    pub size: usize,
    pub drop: Option<unsafe extern "C" fn(*mut c_void)>,
    pub encode:
        Option<unsafe extern "C" fn(*mut c_void, Str, u32, Sink<Tokens>, Sink<Error>) -> u32>,
    pub vocabulary: Option<unsafe extern "C" fn(*mut c_void, Sink<Token>, Sink<Error>) -> u32>,
}

/// `tenon_embedder_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EmbedderVtable {
    pub size: usize,
    pub drop: Option<unsafe extern "C" fn(*mut c_void)>,
    pub info: Option<unsafe extern "C" fn(*mut c_void, Sink<EmbedderInfo>, Sink<Error>) -> u32>,
    pub embed: Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const Tokens,
            usize,
            *const AtomicU32,
            *mut f32,
            Sink<Error>,
        ) -> u32,
    >,
}

/// `tenon_model_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModelVtable {
    pub size: usize,
    pub drop: Option<unsafe extern "C" fn(*mut c_void)>,
    pub info: Option<unsafe extern "C" fn(*mut c_void, Sink<ModelInfo>, Sink<Error>) -> u32>,
    pub tokenizer: Option<unsafe extern "C" fn(*mut c_void, *mut Tokenizer, Sink<Error>) -> u32>,
    pub session: Option<
        unsafe extern "C" fn(*mut c_void, *const SessionArgs, *mut Session, Sink<Error>) -> u32,
    >,
    pub requantize:
        Option<unsafe extern "C" fn(*mut c_void, Str, Progress, *mut Model, Sink<Error>) -> u32>,
    pub embedder: Option<unsafe extern "C" fn(*mut c_void, *mut Embedder, Sink<Error>) -> u32>,
}

/// `tenon_backend_vtable`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BackendVtable {
    pub size: usize,
    pub devices: Option<unsafe extern "C" fn(*mut c_void, Sink<Device>, Sink<Error>) -> u32>,
    pub supports: Option<unsafe extern "C" fn(*mut c_void, Str, Sink<Support>)>,
    pub estimate: Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const LoadArgs,
            *const SessionArgs,
            Sink<Estimate>,
            Sink<Error>,
        ) -> u32,
    >,
    pub load: Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const LoadArgs,
            Progress,
            *mut Model,
            Sink<Error>,
        ) -> u32,
    >,
    pub quantize: Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const LoadArgs,
            Str,
            Progress,
            Sink<ModelInfo>,
            Sink<Error>,
        ) -> u32,
    >,
}

/// `tenon_plugin`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plugin {
    pub size: usize,
    pub abi_major: u32,
    pub abi_minor: u32,
    pub id: Str,
    pub name: Str,
    pub version: Str,
    pub vendor: Str,
    pub license: Str,
    pub build: Str,
    pub meta: Meta,
    pub init: Option<unsafe extern "C" fn(Host, Str, *mut Backend, Sink<Error>) -> u32>,
}
