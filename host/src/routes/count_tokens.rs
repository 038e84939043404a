use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde_json::Value;

use super::{
    anthropic,
    body::{Body, RequestBody, read},
    chat::prompt::encode,
    lookup::loaded,
};
use crate::{
    anthropic::{Conversation, InputTokens},
    app::App,
    error::{AnthropicError, ApiError},
    layers::client::Client,
};

/// Counts the tokens of a conversation, as Anthropic's API does.
///
/// The number is that of the prompt that `/v1/messages` makes of the same request: its `input_tokens` and
/// `cache_read_input_tokens` together.
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "Prompts",
    request_body(
        content = Conversation,
        examples(("Chat" = (
            summary = "A question",
            value = json!({
                "model": "",
                "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
            }),
        ))),
    ),
    responses(
        (
            status = 200,
            description = "The number of tokens.",
            body = InputTokens,
            example = json!({"input_tokens": 37}),
        ),
        AnthropicError,
    ),
)]
pub async fn count_tokens(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Body(conversation): Body<Conversation>,
) -> Result<Json<InputTokens>, ApiError> {
    let (_, model) = loaded(&app, &client, conversation.model.as_deref()).await?;
    let (chat, _) = anthropic::chat(conversation)?;
    let prompt = encode(&model, chat, true).await?;
    let input_tokens = prompt.input.tokens.len() as u32;
    Ok(Json(InputTokens { input_tokens }))
}

impl RequestBody for Conversation {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        anthropic::check(fields)?;
        read(fields)
    }
}
