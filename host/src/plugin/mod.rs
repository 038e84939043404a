//! From a file in a plugin directory to a backend that the rest of the host calls as ordinary Rust.
//!
//! A file goes through `discover`, `elf` (is it whole and for this machine?), `probe` (does a child process survive
//! loading it?) and `load` (do both sides mean the same by the ABI's types?), and ends in the [`Registry`], either as a
//! [`Backend`] or as a [`RefusedPlugin`] with its reason. The same open file goes all the way, so what was checked is what
//! is loaded. Libraries are never unloaded.
//!
//! Invariant: outside this module nothing names `abi_stable` or `tenon_plugin_api::abi`.

mod backend;
mod discover;
mod elf;
mod embedder;
mod host_services;
mod load;
mod model;
pub mod probe;
mod registry;
mod session;

pub use backend::{Backend, ReportProgress};
pub use discover::DirectoryError;
pub use embedder::Embedder;
pub use model::{Model, Tokenizer};
pub use registry::{ChooseError, RefusedPlugin, Registry, RegistryOptions};
pub use session::Session;
