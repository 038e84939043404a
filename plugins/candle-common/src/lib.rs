//! What the candle plugins share: a family of decoders on candle, written once.
//!
//! - `config` is what makes one decoder another, as data; `weights` is where tensors come from, and their quantization.
//! - `decoder` computes a ragged batch: all sequences' tokens go through the `linear` layers together, and each
//!   attends to its own keys and values in the KV pool.
//! - `compute` is what it computes with: the own kernels for CPUs, or candle's tensors for GPUs.
//! - `kernels` is what candle has no kernel for on CPUs, `kv` their KV pool, `pool` their threads.
//! - `sequences` are what batches extend: the KV pool with its book, and one batch through the decoder.
//! - `session`, `embedder` and `model` are what a host sees; `backend` and `devices` are what the plugins do alike around them.

pub mod backend;
pub mod compute;
pub mod config;
pub mod decoder;
pub mod devices;
pub mod embedder;
mod files;
pub mod kernels;
pub mod kv;
pub mod linear;
pub mod matrix;
pub mod model;
pub mod pool;
pub mod sequences;
pub mod session;
pub mod tokenizer;
pub mod weights;
