//! What chats have besides parameters. Their messages and tools become what a chat template gets, for all routes that take a
//! chat. Answers may follow a grammar of calls, and have calls.

pub mod calls;
pub mod grammar;
pub mod messages;
pub mod prompt;
pub mod tools;
mod unsupported;
