use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    ChatLogprobs, FinishReason, GenerationParameters, PastToolCall, Tool, ToolCall, ToolCallChunk,
    ToolChoice,
};

/// What `POST /v1/chat/completions` takes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// The conversation so far.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// Whether a model that can think should. Default: false, unless `reasoning_effort` says so.
    pub enable_thinking: Option<bool>,
    /// How much a model that can think should. Default: it should not.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Tool>>,
    /// Whether it calls them. Default: `auto`.
    pub tool_choice: Option<ToolChoice>,
    /// Whether an answer may have several calls. Default: true.
    pub parallel_tool_calls: Option<bool>,
    /// Variables for the model's chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Whether the prompt ends with the opening of an answer. Default: true, unless `continue_final_message`.
    pub add_generation_prompt: Option<bool>,
    /// Whether the answer goes on with the text of the last message. Default: false.
    pub continue_final_message: Option<bool>,
    /// Whether to return the log-probabilities of the answer's tokens. Default: false.
    pub logprobs: Option<bool>,
    /// How many of the most likely tokens to return at each place of the answer; only with `logprobs`. Default: 0.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<u32>,
    /// Everything that plain completions take too.
    #[serde(flatten)]
    pub parameters: GenerationParameters,
}

/// How much a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    /// It does not.
    None,
    /// It does; the chat template gets the word, and few tell one from the other.
    Minimal,
    /// See `minimal`.
    Low,
    /// See `minimal`.
    Medium,
    /// See `minimal`.
    High,
    /// See `minimal`.
    Xhigh,
}

/// A message of the conversation.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said. May be null in messages of the assistant.
    pub content: Option<Content>,
    /// What the assistant called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<PastToolCall>>,
    /// Which call a message of the tool answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the assistant thought before it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
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
    /// `text`, or `refusal` for what the assistant said.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a `text` part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The text of a `refusal` part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Which answer this is.
    pub index: u32,
    /// The answer.
    pub message: ChatMessage,
    /// Null unless asked for.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The message of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatMessage {
    /// Always `assistant`.
    pub role: Role,
    /// Its text. Null if it only calls tools.
    #[schema(required)]
    pub content: Option<String>,
    /// What the model thought before it answered, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that it calls, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
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
    /// Null unless asked for.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
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
    /// More of what the model thinks before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// More of the tools that it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallChunk>>,
}
