//! Reading a chat, for all routes that take one: its messages and tools become what a chat template gets.

pub mod messages;
pub mod tools;
mod unsupported;
