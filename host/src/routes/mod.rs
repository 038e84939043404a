//! One file for each route; what they share is in `body.rs` (what comes in), `settings.rs` and `messages.rs` (what it means)
//! and `answer.rs`, `stream.rs` and `logprobs.rs`
//! (what goes out).

mod answer;
pub mod apply_template;
mod body;
pub mod chat_completions;
pub mod completions;
pub mod detokenize;
pub mod docs;
mod dry;
pub mod embeddings;
mod grammar;
pub mod health;
mod logprobs;
mod messages;
pub mod metrics;
pub mod models;
pub mod requantize;
mod settings;
mod stream;
pub mod tokenize;
mod tokens;
mod tools;
mod unsupported;
