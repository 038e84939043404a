//! OpenAI's wire types, with Tenon's additional keys.
//!
//! Invariant: they know serde and utoipa and nothing else. What a request's values mean is checked in `routes`.
//! Their comments are the descriptions in the API's documentation.

mod chat;
mod completion;
mod embedding;
mod error;
mod grammar;
mod logprobs;
mod model;
mod parameters;
mod requantize;
mod response;
mod tokens;
mod tools;

pub use chat::{
    ChatChoice, ChatChunkChoice, ChatCompletionRequest, ChatDelta, ChatMessage, Content,
    ContentPart, Message, ReasoningEffort, Role,
};
pub use completion::{CompletionChoice, CompletionRequest, Prompt};
pub use embedding::{
    EmbeddingList, EmbeddingObject, EmbeddingRequest, EmbeddingUsage, EmbeddingVector,
    EncodingFormat,
};
pub use error::{ErrorBody, ErrorEnvelope};
pub use grammar::{
    GrammarKind, GrammarRequest, GrammarValue, JsonSchemaFormat, ResponseFormat, ResponseKind,
};
pub use logprobs::{ChatLogprobs, ChatTokenLogprob, CompletionLogprobs, TokenLogprob, TopLogprobs};
pub use model::{ModelEmbeddings, ModelList, ModelObject, ModelSampling};
pub use parameters::{GenerationParameters, Stop, StreamOptions};
pub use requantize::{RequantizeProgress, RequantizeQuery, RequantizeReport, RequantizeRequest};
pub use response::{Completion, CompletionTokensDetails, FinishReason, PromptTokensDetails, Usage};
pub use tokens::{
    AppliedTemplate, ChatToTokenize, DetokenizeRequest, Detokenized, Piece, TextToTokenize, Token,
    TokenPiece, TokenizeRequest, Tokenized,
};
pub use tools::{
    Function, FunctionCall, FunctionCallChunk, FunctionName, NamedTool, PastFunctionCall,
    PastToolCall, Tool, ToolCall, ToolCallChunk, ToolChoice, ToolKind, ToolMode,
};
