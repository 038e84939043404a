//! Messages, tools and tool calls, for all routes that take a chat: converting a request's messages and tools for the chat
//! template, the grammar of answers with tool calls, and writing tool calls.

pub mod calls;
pub mod grammar;
pub mod messages;
pub mod prompt;
pub mod tools;
mod unsupported;
