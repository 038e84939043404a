//! One file for each route; what they share is in `body.rs` (what comes in), `settings.rs` and `messages.rs` (what it means)
//! and `answer.rs` and `stream.rs` (what goes out).

mod answer;
mod body;
mod chat_completions;
mod completions;
mod health;
mod messages;
mod metrics;
mod models;
mod settings;
mod stream;
mod unsupported;

pub use chat_completions::chat_completions;
pub use completions::completions;
pub use health::health;
pub use metrics::metrics;
pub use models::{list_models, retrieve_model};
