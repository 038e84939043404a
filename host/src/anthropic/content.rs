use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A text, or the blocks that make up a content.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
#[schema(as = anthropic::Content)]
pub enum Content<Block> {
    /// A text: short for one block of text.
    Text(String),
    /// Blocks, in order.
    Blocks(Vec<Block>),
}

/// Written by hand, because errors of an untagged enum do not say which block is wrong.
impl<'de, Block: Deserialize<'de>> Deserialize<'de> for Content<Block> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor(PhantomData))
    }
}

struct ContentVisitor<Block>(PhantomData<Block>);

impl<'de, Block: Deserialize<'de>> Visitor<'de> for ContentVisitor<Block> {
    type Value = Content<Block>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(r#"a string or a list of blocks such as {"type": "text", "text": "…"}"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, blocks: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(blocks)).map(Content::Blocks)
    }
}

/// A block of a message. `cache_control` is accepted in each, without effect: prompts are cached anyway.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::ContentBlockParam)]
pub enum ContentBlockParam {
    /// A text.
    Text {
        /// The text.
        text: String,
    },
    /// The assistant's reasoning, as an earlier answer had it.
    Thinking {
        /// The reasoning.
        thinking: String,
        /// Accepted, of no effect.
        signature: Option<String>,
    },
    /// Reasoning that only the server which made it can read. Accepted and left out.
    RedactedThinking,
    /// Refused: models take text only.
    Image,
    /// Refused: models take text only.
    Document,
    /// A tool call of the assistant, as it was answered.
    ToolUse {
        /// The id that the block with the result has as `tool_use_id`.
        id: String,
        /// The name of the tool.
        name: String,
        /// The arguments.
        #[schema(value_type = Object)]
        input: Map<String, Value>,
    },
    /// The result of a tool call, from the user.
    ToolResult(ToolResult),
}

/// The result of a tool call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = anthropic::ToolResult)]
pub struct ToolResult {
    /// Id of the call.
    pub tool_use_id: String,
    /// The result. Default: empty.
    pub content: Option<Content<TextBlockParam>>,
    /// Whether the tool failed. The model is then told so. Default: false.
    pub is_error: Option<bool>,
}

/// A block of a text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = anthropic::TextBlockParam)]
pub struct TextBlockParam {
    /// Only `text` is supported.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: Option<String>,
}
