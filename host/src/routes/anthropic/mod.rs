//! Anthropic's Messages API, which generates answers as chat completions do.
//!
//! 1. [`check`] refuses what the server does not implement.
//! 2. [`chat`] converts a conversation to the form that chat templates expect, and [`parameters`] converts its parameters to
//!    those of chat completions.
//! 3. [`AnswerHead::whole`] writes a whole answer, and [`streamed`] writes an answer as events.

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
