//! Anthropic's Messages API on the core that chats have.
//!
//! 1. [`check`] refuses what the server does not implement.
//! 2. [`chat`] turns a conversation into what chat templates expect, and [`parameters`] makes parameters those of chats.
//! 3. An [`AnswerHead`] writes a whole answer. [`streamed`] writes one as events.

mod chat;
mod events;
mod message;
mod settings;
mod stream;
mod tools;
mod turns;
mod unsupported;

pub use chat::chat;
pub use message::AnswerHead;
pub use settings::{parameters, shows_thinking, stop_sequences, wanted};
pub use stream::{error, streamed};
pub use unsupported::check;
