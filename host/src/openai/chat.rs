use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{FinishReason, GenerationParameters};

/// What `POST /v1/chat/completions` takes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// The conversation so far.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// Whether a model that can think should. Default: false.
    pub enable_thinking: Option<bool>,
    /// Everything that plain completions take too.
    #[serde(flatten)]
    pub parameters: GenerationParameters,
}

/// A message of the conversation.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said. May be null in messages of the assistant.
    pub content: Option<Content>,
    /// Other keys, such as `name`: chat templates may use them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The newer name of `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// What is said.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, null or a list of parts such as {\"type\": \"text\", \"text\": \"…\"}"
)]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts that make up a text.
    Parts(Vec<ContentPart>),
}

/// A part of what is said.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ContentPart {
    /// Only `text` is supported.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a `text` part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Which answer this is.
    pub index: u32,
    /// The answer.
    pub message: ChatMessage,
    /// Always null.
    #[schema(required)]
    pub logprobs: Option<()>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The message of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatMessage {
    /// Always `assistant`.
    pub role: Role,
    /// Its text.
    #[schema(required)]
    pub content: Option<String>,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// A piece of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChunkChoice {
    /// Which answer this is a piece of.
    pub index: u32,
    /// What comes on top of the pieces before.
    pub delta: ChatDelta,
    /// Always null.
    #[schema(required)]
    pub logprobs: Option<()>,
    /// Null before the last piece.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}

/// What one piece adds to an answer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ChatDelta {
    /// Only in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}
