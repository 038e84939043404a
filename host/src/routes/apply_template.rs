use std::sync::Arc;

use axum::{Extension, Json, extract::State};

use super::{blocking::blocking, body::Body, chat_completions::messages, lookup::loaded};
use crate::{
    app::App,
    error::{AnyError, ApiError, BodyError, ModelError},
    layers::client::Client,
    openai::{AppliedTemplate, ChatCompletionRequest},
};

/// Shows the prompt of a chat.
///
/// The request is that of `/v1/chat/completions`; nothing is generated. Text of the messages that looks like a control
/// token is plain text in a chat, but would be a control token if the prompt were sent to `/v1/completions`. Request and
/// answer have llama-server's form, except for `adaptations`.
#[utoipa::path(
    post,
    path = "/apply-template",
    tag = "Prompts",
    request_body(
        content = ChatCompletionRequest,
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
            description = "The prompt.",
            body = AppliedTemplate,
            example = json!({
                "prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
                "adaptations": [],
            }),
        ),
        AnyError,
        ModelError,
        BodyError,
    ),
)]
pub async fn apply_template(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Body(request): Body<ChatCompletionRequest>,
) -> Result<Json<AppliedTemplate>, ApiError> {
    let (_, model) = loaded(&app, &client, request.parameters.model.as_deref()).await?;
    let (chat, _) = messages::chat(request)?;
    let rendered = blocking(move || model.render_chat(&chat)).await?;
    Ok(Json(AppliedTemplate {
        prompt: rendered.pieces().concat(),
        adaptations: rendered.notes().iter().map(ToString::to_string).collect(),
    }))
}
