use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::Value;

use super::{
    answer::{Format, answer, blocking, loaded},
    body::{Body, RequestBody, read},
    messages,
    settings::Settings,
    unsupported,
};
use crate::{
    app::App,
    engine::FinishReason,
    error::ApiError,
    openai::{
        ChatChoice, ChatChunkChoice, ChatCompletionRequest, ChatDelta, ChatMessage,
        GenerationParameters, Role,
    },
};

/// Answers a conversation.
///
/// Without `max_tokens` the answer may go on to the end of the context.
pub async fn chat_completions(
    State(app): State<Arc<App>>,
    Body(request): Body<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let (served, model) = loaded(&app, request.parameters.model.as_deref())?;
    let settings = Settings::new(&request.parameters, &model.engine.info().sampling)?;
    let messages = messages::for_template(request.messages)?;
    let enable_thinking = request.enable_thinking.unwrap_or(false);
    let chat = model.clone();
    let prompt = blocking(move || chat.encode_chat(&messages, enable_thinking)).await?;
    answer::<Chat>(&app, served, &model, prompt, settings).await
}

impl RequestBody for ChatCompletionRequest {
    fn check(fields: &Value) -> Result<(), ApiError> {
        unsupported::check_chat(fields)?;
        // serde loses the names of fields in a flattened struct.
        read::<GenerationParameters>(fields).map(drop)
    }
}

/// How a chat is answered.
pub struct Chat;

impl Format for Chat {
    type Choice = ChatChoice;
    type ChunkChoice = ChatChunkChoice;

    const ID_PREFIX: &str = "chatcmpl-";
    const OBJECT: &str = "chat.completion";
    const CHUNK_OBJECT: &str = "chat.completion.chunk";

    fn whole(content: String, reason: FinishReason) -> ChatChoice {
        ChatChoice {
            index: 0,
            message: ChatMessage {
                role: Role::Assistant,
                content: Some(content),
                refusal: None,
            },
            logprobs: None,
            finish_reason: reason.into(),
        }
    }

    fn opening() -> Option<ChatChunkChoice> {
        let delta = ChatDelta {
            role: Some(Role::Assistant),
            content: Some(String::new()),
        };
        Some(chunk(delta, None))
    }

    fn text(content: String) -> ChatChunkChoice {
        let delta = ChatDelta {
            role: None,
            content: Some(content),
        };
        chunk(delta, None)
    }

    fn end(reason: FinishReason) -> ChatChunkChoice {
        chunk(ChatDelta::default(), Some(reason))
    }
}

fn chunk(delta: ChatDelta, reason: Option<FinishReason>) -> ChatChunkChoice {
    ChatChunkChoice {
        index: 0,
        delta,
        logprobs: None,
        finish_reason: reason.map(Into::into),
    }
}
