use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    ChatLogprobs, FinishReason, GenerationParameters, PastToolCall, ReasoningEffort, Tool,
    ToolCall, ToolCallChunk, ToolChoice,
};

/// The request of `POST /v1/chat/completions`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// The conversation so far.
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// Whether a model that can reason should do so. Default: false, unless `reasoning_effort` or `thinking_token_budget` asks for it.
    pub enable_thinking: Option<bool>,
    /// How much a model that can reason should do so. Default: not at all.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// Most tokens of reasoning. Then its closing tag is forced, and the answer follows. A budget turns reasoning on unless it is
    /// 0, or `enable_thinking` or `reasoning_effort` say otherwise. Default: any number.
    pub thinking_token_budget: Option<u32>,
    /// Whether and how much a model that can reason should do so, in the form of `/v1/responses`.
    pub reasoning: Option<ChatReasoning>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Tool>>,
    /// Whether the model calls tools. Default: `auto`.
    pub tool_choice: Option<ToolChoice>,
    /// Whether an answer may have several tool calls. Default: true.
    pub parallel_tool_calls: Option<bool>,
    /// Variables for the model's chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Whether the prompt ends with the opening of an answer. Default: true, unless `continue_final_message` is true.
    pub add_generation_prompt: Option<bool>,
    /// Whether the answer continues the text of the last message. Default: false.
    pub continue_final_message: Option<bool>,
    /// Whether to return the log-probabilities of the answer's tokens. Default: false.
    pub logprobs: Option<bool>,
    /// How many of the most likely tokens to return for each position of the answer. Only with `logprobs`. Default: 0.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<u32>,
    /// The parameters that completions have too.
    #[serde(flatten, skip_deserializing)]
    pub parameters: GenerationParameters,
}

/// Whether and how much a model reasons.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct ChatReasoning {
    /// The same as `reasoning_effort`, which overrides it.
    pub effort: Option<ReasoningEffort>,
    /// The same as `thinking_token_budget`, which overrides it.
    pub max_tokens: Option<u32>,
}

/// A message of the conversation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Message {
    /// Who says the message.
    pub role: Role,
    /// The text of the message. May be null in messages of the assistant.
    pub content: Option<Content>,
    /// The tool calls of the assistant.
    pub tool_calls: Option<Vec<PastToolCall>>,
    /// Id of the call whose result a message of the tool is.
    pub tool_call_id: Option<String>,
    /// The reasoning of the assistant before its answer.
    pub reasoning_content: Option<String>,
    /// Other keys, such as `name`. Chat templates may use them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who says a message.
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

/// The text of a message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
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

/// A part of a message's text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ContentPart {
    /// `text`, or `refusal` in messages of the assistant.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a `text` part.
    pub text: Option<String>,
    /// The text of a `refusal` part.
    pub refusal: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Index of the answer.
    pub index: u32,
    /// The message.
    pub message: ChatMessage,
    /// Log-probabilities of the tokens. Null unless requested.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
}

/// The message of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatMessage {
    /// Always `assistant`.
    pub role: Role,
    /// The text. Null if the answer only calls tools.
    #[schema(required)]
    pub content: Option<String>,
    /// The reasoning before the answer, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tool calls, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// A piece of an answer in a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatChunkChoice {
    /// Index of the answer that the piece belongs to.
    pub index: u32,
    /// What this piece adds to the answer.
    pub delta: ChatDelta,
    /// Log-probabilities of the tokens. Null unless requested.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
    /// Why the answer ended. Null before the last piece.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}

/// What one piece adds to an answer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ChatDelta {
    /// Always `assistant`. Only in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of the reasoning before the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// More of the tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallChunk>>,
}
