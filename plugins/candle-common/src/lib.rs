//! Code that the candle plugins share: a family of decoder models on candle, written once.
//!
//! - `config` describes as data how one decoder differs from another; `weights` reads and quantizes tensors.
//! - `layers` has the weights of linear layers and norms, in the form of the hardware that computes with them.
//! - `compute` is the trait of a decoder's operations, with an implementation for each kind of hardware: this crate's kernels
//!   on CPUs, and candle's tensors on GPUs.
//! - `decoder` computes a ragged batch. The tokens of all sequences go through the linear layers together, and each sequence
//!   attends to its own keys and values in the KV pool.
//! - `kernels` has the CPU kernels that candle lacks, `kv` their KV pool, `pool` their threads.
//! - `sequences` is the KV pool with its ledger, and the computation of one batch.
//! - `session`, `embedder`, `model` and `backend` implement the traits of the SDK. A plugin adds only the files that it opens
//!   (`backend::FileFormat`).

pub mod backend;
pub mod compute;
pub mod config;
pub mod decoder;
pub mod devices;
pub mod embedder;
pub mod kernels;
pub mod kv;
pub mod layers;
pub mod matrix;
pub mod model;
pub mod pool;
pub mod sequences;
pub mod session;
pub mod weights;
