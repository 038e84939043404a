use serde::Serialize;
use utoipa::ToSchema;

use super::{
    super::{ChatTokenLogprob, ErrorBody},
    OutputItem, OutputPart, ResponseObject,
};

/// Declares the enum of events from a table: for each the `type`, the variant and the content.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($content:ty) => $name:tt,)*) => {
        /// An event of a response's stream. Its `type` is also the name of the server-sent event.
        #[derive(Clone, Debug, Serialize, ToSchema)]
        #[serde(tag = "type")]
        pub enum ResponseStreamEvent {
            $($(#[$doc])* #[serde(rename = $name)] $variant($content),)*
        }

        impl ResponseStreamEvent {
            /// The event's `type`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }
        }
    };
}

events! {
    /// The first event.
    Created(ResponseEvent) => "response.created",
    /// The response has begun.
    InProgress(ResponseEvent) => "response.in_progress",
    /// The last event of a complete response.
    Completed(ResponseEvent) => "response.completed",
    /// The last event of a response that was cut off.
    Incomplete(ResponseEvent) => "response.incomplete",
    /// The last event of a response that failed.
    Failed(ResponseEvent) => "response.failed",
    /// An item begins.
    ItemAdded(ItemEvent) => "response.output_item.added",
    /// An item is complete, or cut off.
    ItemDone(ItemEvent) => "response.output_item.done",
    /// A part of an item begins.
    PartAdded(PartEvent) => "response.content_part.added",
    /// A part of an item is complete, or cut off.
    PartDone(PartEvent) => "response.content_part.done",
    /// More text of a message.
    TextDelta(OutputTextDelta) => "response.output_text.delta",
    /// The whole text of a message.
    TextDone(OutputTextDone) => "response.output_text.done",
    /// More reasoning.
    ReasoningDelta(ReasoningTextDelta) => "response.reasoning_text.delta",
    /// The whole reasoning.
    ReasoningDone(ReasoningTextDone) => "response.reasoning_text.done",
    /// More of the arguments of a function.
    ArgumentsDelta(CallArgumentsDelta) => "response.function_call_arguments.delta",
    /// The whole arguments of a function.
    ArgumentsDone(CallArgumentsDone) => "response.function_call_arguments.done",
    /// More of the text that a custom tool gets.
    CustomInputDelta(CallArgumentsDelta) => "response.custom_tool_call_input.delta",
    /// The whole text that a custom tool gets.
    CustomInputDone(CustomInputDone) => "response.custom_tool_call_input.done",
    /// An error. `response.failed` follows.
    Error(ResponseErrorEvent) => "error",
}

/// The response as it is now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseEvent {
    /// Number of the event in the stream, from 0.
    pub sequence_number: u32,
    /// The response.
    pub response: Box<ResponseObject>,
}

/// An item as it is now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ItemEvent {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// The item.
    pub item: OutputItem,
}

/// A part of an item as it is now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PartEvent {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// Index of the part in the item's `content`.
    pub content_index: u32,
    /// The part.
    pub part: OutputPart,
}

/// More text of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputTextDelta {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// Index of the part in the item's `content`.
    pub content_index: u32,
    /// The text.
    pub delta: String,
    /// Log-probabilities of the text's tokens. Empty unless `include` or `top_logprobs` asks for them.
    pub logprobs: Vec<ChatTokenLogprob>,
}

/// The whole text of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputTextDone {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// Index of the part in the item's `content`.
    pub content_index: u32,
    /// The text.
    pub text: String,
    /// Log-probabilities of the text's tokens. Empty unless `include` or `top_logprobs` asks for them.
    pub logprobs: Vec<ChatTokenLogprob>,
}

/// More reasoning.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReasoningTextDelta {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// Index of the part in the item's `content`.
    pub content_index: u32,
    /// The reasoning.
    pub delta: String,
}

/// The whole reasoning.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReasoningTextDone {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// Index of the part in the item's `content`.
    pub content_index: u32,
    /// The reasoning.
    pub text: String,
}

/// More of the arguments of a function, or of the text that a custom tool gets.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CallArgumentsDelta {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// The arguments.
    pub delta: String,
}

/// The whole arguments of a function.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CallArgumentsDone {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// The arguments.
    pub arguments: String,
}

/// The whole text that a custom tool gets.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CustomInputDone {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The item's id.
    pub item_id: String,
    /// Index of the item in `output`.
    pub output_index: u32,
    /// The text.
    pub input: String,
}

/// An error in the middle of a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseErrorEvent {
    /// Number of the event in the stream.
    pub sequence_number: u32,
    /// The error for programs.
    #[schema(required)]
    pub code: Option<&'static str>,
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// The parameter at fault. Null if it is none.
    #[schema(required)]
    pub param: Option<String>,
    /// The same error in the form of all other errors.
    pub error: ErrorBody,
}
