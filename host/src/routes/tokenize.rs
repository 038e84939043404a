use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde_json::Value;
use tenon_plugin_api::{EncodeFlags, Vocabulary};

use super::{
    blocking::blocking,
    body::{Body, RequestBody, read},
    chat_completions::messages,
    lookup::loaded,
};
use crate::{
    app::App,
    error::{AnyError, ApiError, BodyError, ModelError},
    layers::client::Client,
    openai::{
        ChatToTokenize, TextToTokenize, Token, TokenContent, TokenPiece, TokenizeRequest, Tokenized,
    },
};

/// Turns a text or a chat into tokens.
///
/// A chat gets the tokens that `/v1/chat/completions` gives the model for the same request. A text that is certainly longer
/// than the context is refused. Request and answer have llama-server's form, and `count` is vLLM's.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "Prompts",
    request_body(
        content = TokenizeRequest,
        examples(
            ("Text" = (
                summary = "A text",
                value = json!({"model": "", "content": "Hello, world!", "with_pieces": true}),
            )),
            ("Chat" = (
                summary = "How many tokens a chat has",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The tokens.",
            body = Tokenized,
            example = json!({
                "tokens": [
                    {"id": 19556, "piece": "Hello"},
                    {"id": 28, "piece": ","},
                    {"id": 905, "piece": " world"},
                    {"id": 17, "piece": "!"},
                ],
                "count": 4,
            }),
        ),
        AnyError,
        ModelError,
        BodyError,
    ),
)]
pub async fn tokenize(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Body(request): Body<TokenizeRequest>,
) -> Result<Json<Tokenized>, ApiError> {
    let (_, model) = loaded(&app, &client, request.model()).await?;
    let with_pieces = request.with_pieces();
    let encoder = model.clone();
    let tokens = match request {
        TokenizeRequest::Text(text) => {
            blocking(move || encoder.tokenize(&text.content, flags(&text))).await?
        }
        TokenizeRequest::Chat(request) => {
            let (chat, _) = messages::chat(request.chat)?;
            let prompt = blocking(move || encoder.encode_chat(&chat, false));
            prompt.await?.input.tokens
        }
    };
    let facts = model.facts();
    let written = tokens.into_iter().map(|id| match with_pieces {
        true => Token::Piece(piece(id, &facts.vocabulary)),
        false => Token::Id(id),
    });
    let tokens: Vec<_> = written.collect();
    let count = tokens.len();
    Ok(Json(Tokenized { tokens, count }))
}

impl TokenizeRequest {
    fn model(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.model.as_deref(),
            Self::Chat(request) => request.chat.parameters.model.as_deref(),
        }
    }

    fn with_pieces(&self) -> bool {
        let with_pieces = match self {
            Self::Text(text) => text.with_pieces,
            Self::Chat(request) => request.with_pieces,
        };
        with_pieces.unwrap_or(false)
    }
}

impl RequestBody for TokenizeRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        if fields["messages"].is_null() {
            return read(fields).map(Self::Text);
        }
        if !fields["content"].is_null() {
            let message = "'content' cannot go with 'messages': send one of them";
            return Err(ApiError::invalid_parameter("content", message));
        }
        Ok(Self::Chat(Box::new(ChatToTokenize {
            chat: RequestBody::read(fields)?,
            ..read(fields)?
        })))
    }
}

fn flags(text: &TextToTokenize) -> EncodeFlags {
    let flag = |set: bool, flag| if set { flag } else { EncodeFlags::NONE };
    flag(text.add_special.unwrap_or(false), EncodeFlags::ADD_SPECIAL)
        | flag(
            text.parse_special.unwrap_or(true),
            EncodeFlags::PARSE_CONTROL,
        )
}

fn piece(id: u32, vocabulary: &Vocabulary) -> TokenPiece {
    let bytes = vocabulary.bytes(id);
    let piece = match str::from_utf8(bytes) {
        Ok(text) => TokenContent::Text(text.to_owned()),
        Err(_) => TokenContent::Bytes(bytes.to_vec()),
    };
    TokenPiece { id, piece }
}
