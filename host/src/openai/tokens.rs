use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ChatCompletionRequest;

/// What `POST /tokenize` takes: a text, or a chat as `/v1/chat/completions` takes it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TokenizeRequest {
    /// A text.
    Text(TextToTokenize),
    /// A conversation, of which the model's chat template makes a prompt.
    Chat(Box<ChatToTokenize>),
}

/// A text to tokenize.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct TextToTokenize {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// The text.
    pub content: String,
    /// Whether to add what the model expects around a text, such as its begin token. Default: false.
    pub add_special: Option<bool>,
    /// Whether control tokens that are written in the text are read as such. Default: true.
    pub parse_special: Option<bool>,
    /// Whether to send the text of each token as well. Default: false.
    pub with_pieces: Option<bool>,
}

/// A chat to tokenize.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatToTokenize {
    /// Whether to send the text of each token as well. Default: false.
    pub with_pieces: Option<bool>,
    /// What `/v1/chat/completions` takes.
    #[serde(flatten)]
    pub chat: ChatCompletionRequest,
}

/// Tokens of a text or chat.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tokenized {
    /// In the order of the text.
    pub tokens: Vec<Token>,
    /// How many there are.
    pub count: usize,
}

/// A token, with or without its text.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Token {
    /// Its id.
    Id(u32),
    /// With `with_pieces`.
    Piece(TokenPiece),
}

/// A token and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenPiece {
    /// The token.
    pub id: u32,
    /// Its text.
    pub piece: Piece,
}

/// The text of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Piece {
    /// Whole characters.
    Text(String),
    /// Bytes, where characters are cut: the tokens around it have the rest.
    Bytes(Vec<u8>),
}

/// What `POST /detokenize` takes.
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
    /// Control tokens are written out. Bytes that are no characters are U+FFFD.
    pub content: String,
}

/// The prompt of a chat.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AppliedTemplate {
    /// What the model's chat template makes of the chat.
    pub prompt: String,
}
