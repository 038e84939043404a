//! OpenAI's wire types, with Tenon's additional keys.
//!
//! Invariant: these types know serde and utoipa and nothing else. `routes` checks what a request's values mean. The
//! comments of these types are the descriptions in the API's documentation.
//!
//! A field with `flatten` and `skip_deserializing` is a struct that several requests contain. It is documented as part of
//! its request, and `routes` deserializes it separately.
//!
//! Chats, completions and responses know only their own types and `common`, `error` and `logprobs`. What chats and completions
//! have in common is in `parameters`, `grammar`, `structural_tag` and `response`.

mod admin;
mod chat;
mod common;
mod completion;
mod embedding;
mod error;
mod grammar;
mod logprobs;
mod model;
mod parameters;
mod requantize;
mod rerank;
mod response;
pub mod responses;
mod structural_tag;
mod tokens;
mod tools;

use std::time::SystemTime;

pub use admin::{
    AdminChange, AdminConfig, AdminDownload, AdminDrain, AdminFailedModel, AdminLoadedModel,
    AdminModel, AdminModelChanges, AdminModelList, AdminOutcome, AdminPlugin,
};
pub use chat::{
    ChatChoice, ChatChunkChoice, ChatCompletionRequest, ChatDelta, ChatMessage, ChatReasoning,
    Content, ContentPart, Message, Role,
};
pub use common::{ReasoningEffort, Stop, ToolMode};
pub use completion::{CompletionChoice, CompletionRequest, Prompt};
pub use embedding::{
    EmbeddingList, EmbeddingObject, EmbeddingRequest, EmbeddingUsage, EmbeddingVector,
    EncodingFormat,
};
pub use error::{ErrorBody, ErrorEnvelope};
pub use grammar::{
    GrammarKind, GrammarRequest, GrammarValue, JsonSchemaFormat, ResponseFormat, ResponseKind,
    TaggedGrammar,
};
pub use logprobs::{ChatLogprobs, ChatTokenLogprob, CompletionLogprobs, TokenLogprob, TopLogprobs};
pub use model::{ModelEmbeddings, ModelList, ModelObject, ModelSampling, ModelStatus};
pub use parameters::{GenerationParameters, StreamOptions};
pub use requantize::{RequantizeProgress, RequantizeQuery, RequantizeReport, RequantizeRequest};
pub use rerank::{
    DocumentText, RankedDocument, RerankDocument, RerankRequest, Reranking, ScoreList, ScoreObject,
    ScoreRequest, TextOrTexts,
};
pub use response::{Completion, CompletionTokensDetails, FinishReason, PromptTokensDetails, Usage};
pub use structural_tag::{SchemaStyle, Structure, TagEnd, TagFormat, TagKind, TagOfFormat};
pub use tokens::{
    AppliedTemplate, ChatToTokenize, DetokenizeRequest, Detokenized, TextToTokenize, Token,
    TokenContent, TokenPiece, TokenizeRequest, Tokenized,
};
pub use tools::{
    Function, FunctionCall, FunctionCallChunk, FunctionName, NamedTool, PastFunctionCall,
    PastToolCall, Tool, ToolCall, ToolCallChunk, ToolChoice, ToolKind,
};

/// A time as the API writes it: whole seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
