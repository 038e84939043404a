//! The wire types of Anthropic's Messages API.
//!
//! Invariant: these types know serde and utoipa and nothing else. `routes` checks what a request's values mean. The
//! comments of these types are the descriptions in the API's documentation.

mod content;
mod error;
mod events;
mod message;
mod request;
mod tools;

pub use content::{Content, ContentBlockParam, TextBlockParam, ToolResult};
pub use error::{ErrorBody, ErrorEnvelope};
pub use events::{BlockDelta, MessageEnd, StreamEvent};
pub use message::{ContentBlock, Message, OutputTokensDetails, StopReason, Usage};
pub use request::{
    Conversation, Effort, InputTokens, MessageParam, MessagesRequest, OutputConfig, OutputFormat,
    Role, Thinking, ThinkingDisplay,
};
pub use tools::{Tool, ToolChoice};
