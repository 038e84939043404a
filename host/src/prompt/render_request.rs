//! The input of a chat template.

use serde_json::{Map, Value as Json};

/// The input of one rendering.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderRequest {
    /// Messages in OpenAI's format: role, content, name, tool_calls …
    pub messages: Vec<Json>,
    /// Tools that the model may call, in OpenAI's format.
    pub tools: Vec<Json>,
    /// How the prompt ends.
    pub ending: Ending,
    /// Other variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Json>,
}

/// The end of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The opening of an assistant's reply.
    #[default]
    GenerationPrompt,
    /// The end of the last message.
    LastMessage,
    /// The end of the last message's text, so that the answer continues this message.
    OpenMessage,
}

/// Variables that requests may not set, because the server sets them for the template.
pub const RESERVED_VARIABLES: [&str; 5] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];
