//! Plugins in C, presented as the objects that plugins in Rust have: the rest of the host cannot tell them apart.
//!
//! A plugin in C fills in the tables of `tenon_plugin.h`, which `abi::c` mirrors. `plugin` reads the table that the library
//! exports. Each kind of object has an adapter: `backend` has the object's trait, and the others have the traits of the SDK, which
//! adds to them what it adds to plugins in Rust (sampling on the CPU, refusing what this version does not know).
//!
//! Rust's types guarantee nothing about what C returns. `read` checks pointers, lengths, sizes, UTF-8 and flags; `call` checks
//! codes. A wrong value becomes an error that names the function.

mod backend;
mod call;
mod embedder;
mod lend;
mod model;
mod object;
mod plugin;
mod read;
mod records;
mod services;
mod session;
mod tokenizer;

pub use plugin::CPlugin;
