use serde::Serialize;
use utoipa::ToSchema;

use super::{ContentBlock, Message, StopReason, Usage};

/// An event of a streamed answer. Its `type` is also the name of the event.
///
/// A stream is `message_start`, then for each block `content_block_start`, deltas and `content_block_stop`, then
/// `message_delta` and `message_stop`. The indexes of blocks count from 0. While there is nothing to send, `ping` comes.
/// `error` may come at any time, and is the last event then.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::StreamEvent)]
pub enum StreamEvent {
    /// The answer begins.
    MessageStart {
        /// The answer without content.
        message: Message,
    },
    /// A block begins.
    ContentBlockStart {
        /// Index of the block.
        index: u32,
        /// The block, still empty.
        content_block: ContentBlock,
    },
    /// A block grows.
    ContentBlockDelta {
        /// Index of the block.
        index: u32,
        /// What the event adds.
        delta: BlockDelta,
    },
    /// A block is complete.
    ContentBlockStop {
        /// Index of the block.
        index: u32,
    },
    /// The answer is complete.
    MessageDelta {
        /// How the answer ended.
        delta: MessageEnd,
        /// How many tokens the whole request took.
        usage: Usage,
    },
    /// The stream ends.
    MessageStop,
    /// Keeps the connection alive.
    Ping,
}

impl StreamEvent {
    /// The name of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Ping => "ping",
        }
    }
}

/// An addition to a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::BlockDelta)]
pub enum BlockDelta {
    /// More reasoning.
    ThinkingDelta {
        /// The reasoning.
        thinking: String,
    },
    /// The signature of the reasoning, at its end.
    SignatureDelta {
        /// Always `unsigned`.
        signature: String,
    },
    /// More text.
    TextDelta {
        /// The text.
        text: String,
    },
    /// More of a call's arguments.
    InputJsonDelta {
        /// A piece of the arguments, which are JSON.
        partial_json: String,
    },
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = anthropic::MessageEnd)]
pub struct MessageEnd {
    /// Why the answer ended.
    pub stop_reason: StopReason,
    /// The stop sequence that ended the answer. Null if none did.
    #[schema(required)]
    pub stop_sequence: Option<String>,
}
