//! Write an LLM backend for Tenon: implement one set of safe traits, call one macro, build one shared library.
//!
//! A backend puts tokens through a model (`forward`), picks tokens from logits (`sample`) and may change the precision of its
//! weights (`requantize`). Everything else (HTTP, prompts, scheduling, grammars, caching) is the host's.
//!
//! 1. Implement [`Backend`] (finds and loads models), [`Model`] (facts, tokenizer, sessions), [`Tokenizer`] and [`Session`]
//!    (one KV pool, many sequences).
//! 2. `export_plugin!(MyBackend);` in a crate with `crate-type = ["cdylib"]`.
//! 3. `cargo build --release`, and drop the `.so` into the plugin directory.
//!
//! `tenon plugins new NAME` writes a whole project. [The guide](guide) goes through it, and says what the host expects of a backend.
//!
//! Every method says on which thread it is called: `[any thread]` or `[model thread]`, the one thread that owns the session.
//! The feature `serde`, which is off by default, makes the plain data types serializable: the facts ([`ModelInfo`], [`Vocabulary`]),
//! the arguments ([`LoadArgs`], [`SessionArgs`] without its [`Interrupt`]), [`SampleParams`] and [`Error`]. The host uses it to send
//! them to another process, and backends do not need it. It changes no layout. The feature `testing`, also off by default, is for
//! the unit tests of a backend: a host, and a driver that calls a session as the server does.
//!
//! The feature `options`, also off by default, turns ordinary structs into options: it makes their JSON Schema and reads
//! them. The feature `hf-tokenizer` makes tokenizers from Hugging Face directories and from GGUF files.
//!
//! A panic anywhere in a plugin becomes an error; the host lives on.

#![deny(missing_docs)]

#[cfg(feature = "hf-tokenizer")]
pub mod files;
pub mod gguf;
#[cfg(feature = "hf-tokenizer")]
pub mod hf_tokenizer;
pub mod levels;
#[cfg(feature = "options")]
pub mod options;
pub mod sampler;
#[cfg(feature = "testing")]
pub mod testing;
#[doc(hidden)]
pub mod vectors;

mod backend;
mod byte_tokenizer;
mod convert;
mod descriptor;
mod embedder;
mod error;
mod export;
mod host;
mod info;
mod kv_ledger;
mod meta;
mod pooling;
mod session_info;
mod unwinding;

pub use backend::{Backend, Model, Session, Tokenizer};
pub use byte_tokenizer::ByteTokenizer;
pub use descriptor::Descriptor;
pub use embedder::{Embedder, EmbedderInfo};
pub use error::{Error, Result};
#[doc(hidden)]
pub use export::{model_box, module};
pub use host::{Host, Progress};
pub use info::{Device, Estimate, LoadArgs, ModelInfo, SessionArgs, Support, Vocabulary};
pub use kv_ledger::KvLedger;
pub use meta::Meta;
pub use pooling::{Pooling, TextBatch};
pub use sampler::CpuSampler;
pub use session_info::SessionInfo;

/// Everything that crosses the library boundary. Backend authors need only the types that are also at the root of this crate.
pub use tenon_plugin_abi as abi;
pub use tenon_plugin_abi::{
    Batch, Capabilities, Code, EncodeFlags, Extension, Interface, Interrupt, KvStats, LogLevel,
    NOT_FORCED, SampleParams, SampleRequest, Sampled, SamplingDefaults, Span, SpanOut, ThreadPlan,
    TokenBias, TokenCount, TokenKind, TokenLogprob, UNLIMITED,
};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}
