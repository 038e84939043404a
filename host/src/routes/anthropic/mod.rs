//! Anthropic's Messages API, which generates answers as chat completions do.
//!
//! 1. [`check`] refuses what the server does not implement.
//! 2. [`chat`] turns a conversation into what chat templates expect, and [`parameters`] makes parameters those of chats.
//! 3. [`streamed`] writes an answer as events. [`whole`] puts the same events together.

mod chat;
mod events;
mod message;
mod settings;
mod stream;
mod tools;
mod turns;
mod unsupported;
mod whole;

pub use chat::chat;
pub use message::AnswerHead;
pub use settings::{parameters, reasoning_budget, shows_thinking, stop_sequences, wanted};
pub use stream::{begun, error, streamed, whole};
pub use unsupported::check;
