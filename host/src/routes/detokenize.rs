use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde_json::Value;

use super::{
    body::{Body, RequestBody, read},
    checks,
    lookup::loaded,
};
use crate::{
    app::App,
    error::{AnyError, ApiError, BodyError, ModelError},
    layers::client::Client,
    openai::{DetokenizeRequest, Detokenized},
};

/// Turns tokens into text.
///
/// Control tokens are written out, so that the text can be tokenized again. Request and answer have llama-server's form.
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "Prompts",
    request_body(
        content = DetokenizeRequest,
        examples(("Tokens" = (
            summary = "Some tokens",
            value = json!({"model": "", "tokens": [72, 101, 108, 108, 111]}),
        ))),
    ),
    responses(
        (
            status = 200,
            description = "The text.",
            body = Detokenized,
            example = json!({"content": "Hello"}),
        ),
        AnyError,
        ModelError,
        BodyError,
    ),
)]
pub async fn detokenize(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Body(request): Body<DetokenizeRequest>,
) -> Result<Json<Detokenized>, ApiError> {
    let (_, model) = loaded(&app, &client, request.model.as_deref()).await?;
    let facts = model.facts();
    let (count, context) = (request.tokens.len(), facts.context_length());
    if count > context as usize {
        return Err(ApiError::context_length_exceeded(format!(
            "'tokens' has {count} tokens, but the context is {context} tokens long"
        )));
    }
    checks::tokens("tokens", &request.tokens, facts.info.vocab_size)?;
    let bytes: Vec<u8> = request
        .tokens
        .iter()
        .flat_map(|&token| facts.vocabulary.bytes(token))
        .copied()
        .collect();
    Ok(Json(Detokenized {
        content: String::from_utf8_lossy(&bytes).into_owned(),
    }))
}

impl RequestBody for DetokenizeRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        read(fields)
    }
}
