//! The cases, with a file for each group.

pub mod embedder;
pub mod estimate;
pub mod file;
pub mod forward;
pub mod info;
pub mod init;
pub mod levels;
pub mod load;
pub mod open;
pub mod random_operations;
pub mod sample;
pub mod sequences;
pub mod session;
pub mod set_threads;
pub mod steady;
pub mod supports;
pub mod tokenizer;
