use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ChatCompletionRequest;

/// The request of `POST /tokenize`: a text, or a chat as `/v1/chat/completions` takes it.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub enum TokenizeRequest {
    /// A text.
    Text(TextToTokenize),
    /// A conversation, which the model's chat template turns into a prompt.
    Chat(Box<ChatToTokenize>),
}

/// A text to tokenize.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct TextToTokenize {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// The text.
    pub content: String,
    /// Whether to add the tokens that the model expects around a text, such as its begin token. Default: false.
    pub add_special: Option<bool>,
    /// Whether control tokens that are written in the text are encoded as control tokens. Default: true.
    pub parse_special: Option<bool>,
    /// Whether to send the text of each token as well. Default: false.
    pub with_pieces: Option<bool>,
}

/// A chat to tokenize.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatToTokenize {
    /// Whether to send the text of each token as well. Default: false.
    pub with_pieces: Option<bool>,
    /// The chat, with the parameters of `/v1/chat/completions`.
    #[serde(flatten, skip_deserializing)]
    pub chat: ChatCompletionRequest,
}

/// The tokens of a text or chat.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tokenized {
    /// The tokens, in the order of the text.
    pub tokens: Vec<Token>,
    /// Number of tokens.
    pub count: usize,
}

/// A token, with or without its text.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Token {
    /// The token's id.
    Id(u32),
    /// The token's id and text, with `with_pieces`.
    Piece(TokenPiece),
}

/// A token and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenPiece {
    /// The token's id.
    pub id: u32,
    /// The token's text.
    pub piece: TokenContent,
}

/// The text of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TokenContent {
    /// Whole characters.
    Text(String),
    /// Bytes, if the token has only a part of a character. The tokens around it have the rest.
    Bytes(Vec<u8>),
}

/// The request of `POST /detokenize`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// Tokens of the model, no more than fit into its context.
    pub tokens: Vec<u32>,
}

/// The text of tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Detokenized {
    /// The text. Control tokens are written out. Bytes that are no characters become U+FFFD.
    pub content: String,
}

/// The prompt of a chat.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AppliedTemplate {
    /// The prompt that the model's chat template makes of the chat.
    pub prompt: String,
    /// Changes that were made to the messages because the template does not take them as they are, a sentence each.
    pub adaptations: Vec<String>,
}
