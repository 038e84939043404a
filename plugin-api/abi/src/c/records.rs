//! The structs that cross once. Each begins with its size.

#![expect(missing_docs, reason = "tenon_plugin.h documents the fields")]

use std::sync::atomic::AtomicU32;

use super::{Meta, Str, Strs, Tokens};

/// `tenon_error`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Error {
    pub size: usize,
    pub message: Str,
    pub meta: Meta,
}

/// `tenon_device`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Device {
    pub size: usize,
    pub id: Str,
    pub name: Str,
    pub memory_bytes: u64,
    pub free_bytes: u64,
    pub meta: Meta,
}

/// `tenon_support`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Support {
    pub size: usize,
    pub reason: Str,
    pub score: u32,
    pub meta: Meta,
}

/// `tenon_estimate`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Estimate {
    pub size: usize,
    pub device: Str,
    pub weight_bytes: u64,
    pub kv_bytes_per_token: u64,
    pub sequence_bytes: u64,
    pub compute_bytes: u64,
    pub meta: Meta,
}

/// `tenon_model_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModelInfo {
    pub size: usize,
    pub architecture: Str,
    pub parameters: u64,
    pub weight_bytes: u64,
    pub context_length: u32,
    pub vocab_size: u32,
    pub logits_width: u32,
    pub has_bos: u32,
    pub bos: u32,
    pub fallback_tensors: u32,
    pub eos: Tokens,
    pub chat_template: Str,
    pub tool_chat_template: Str,
    pub quantization: Str,
    pub source_quantization: Str,
    pub requantize_levels: Strs,
    pub capabilities: u64,
    pub recommended: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub top_k: u32,
    pub repetition_penalty: f32,
    pub meta: Meta,
}

/// `tenon_token`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Token {
    pub size: usize,
    pub bytes: *const u8,
    pub bytes_len: usize,
    pub kind: u32,
}

/// `tenon_embedder_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EmbedderInfo {
    pub size: usize,
    pub dimensions: u32,
    pub max_tokens: u32,
    pub pooling: Str,
    pub meta: Meta,
}

/// `tenon_load_args`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoadArgs {
    pub size: usize,
    pub path: Str,
    pub devices: Strs,
    pub quantize: Str,
    pub options: Str,
    pub threads: u32,
    pub meta: Meta,
}

/// `tenon_session_args`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SessionArgs {
    pub size: usize,
    pub max_sequences: u32,
    pub kv_tokens: u32,
    pub context_length: u32,
    pub max_batch_tokens: u32,
    pub threads: u32,
    pub interrupt: *const AtomicU32,
    pub meta: Meta,
}
