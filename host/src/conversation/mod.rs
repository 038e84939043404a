//! The conversation that all APIs share. Each API translates its messages and tools to these types, and no API knows the types of
//! another. Templates get them in the form of OpenAI's chats, for which templates are written.
//!
//! Invariant: nothing here knows HTTP, wire types, tokens or the rest of the host.

mod effort;
mod message;
mod tool;

pub use effort::Effort;
pub use message::{Call, Content, Message, Role};
pub use tool::Tool;
