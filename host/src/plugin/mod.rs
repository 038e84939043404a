//! Turns a file in a plugin directory into a backend that the rest of the host calls as ordinary Rust.
//!
//! 1. `discover` lists the libraries in the plugin directories. A library has one or more variants, for levels of CPUs
//!    (`cpu`).
//! 2. `candidate` chooses each library's best variant that this CPU can run. `signature` checks that a trusted key signed the
//!    file, if the operator wants that. `elf` checks that the file is complete and is for this machine. `probe` tries it in a
//!    child process (`child`), with every call that comes before a model is loaded. All libraries are tried at the same time.
//! 3. The [`Registry`] has an [`InstalledPlugin`] for each library that can be used, and an [`UnusedFile`] with the reason
//!    for each other file.
//! 4. When a model is loaded with the plugin, `library` opens its file in this process, and `load` checks that both sides agree
//!    on the ABI's types. The result is a [`Backend`]. `c` gives plugins in C the objects that plugins in Rust have.
//!
//! [`Changes`] tells when files have changed. A new registry then replaces the old one, which stays valid for everyone who still
//! uses it.
//!
//! All steps use the same open file, so the file that was tried is the one that is loaded. Libraries are never unloaded.
//!
//! Invariant: outside this module nothing names `abi_stable` or `tenon_plugin_api::abi`.

mod allowed_values;
mod backend;
mod c;
mod candidate;
mod changes;
pub mod child;
mod cpu;
mod current;
mod declared_options;
mod discover;
mod elf;
mod embedder;
mod facts;
mod fault;
mod host_services;
mod installed;
mod known;
mod library;
mod load;
mod model;
mod model_file;
mod options;
mod options_schema;
mod other_abi;
pub mod probe;
mod registry;
mod session;
mod signature;
#[cfg(test)]
pub mod tests;

pub use backend::Backend;
pub use changes::Changes;
pub use child::end_with_parent;
pub use cpu::{Cpu, CpuLevel};
pub use current::Current;
pub use declared_options::DeclaredOptions;
pub use discover::DirectoryError;
pub use elf::{ElfError, check as check_file};
pub use embedder::Embedder;
pub use facts::{CurrentFacts, ModelFacts, TokenizedFacts};
pub use host_services::ReportProgress;
pub use installed::{InstalledPlugin, UnusedFile, start_plugin};
pub use load::{LoadError, Plugin};
pub use model::{CurrentModel, Model, Tokenizer};
pub use options::{EXECUTABLE, RegistryOptions};
pub use options_schema::{DeclaredOption, OptionsSchema};
pub use registry::{ChooseError, CurrentPlugins, Registry};
pub use session::Session;
pub use signature::TrustedKeys;
