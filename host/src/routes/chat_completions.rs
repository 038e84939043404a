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
    error::{AnyError, ApiError, GenerationError, ModelError},
    openai::{
        ChatChoice, ChatChunkChoice, ChatCompletionRequest, ChatDelta, ChatMessage, Completion,
        GenerationParameters, Role,
    },
};

/// Answers a conversation.
///
/// Without `max_tokens` the answer may go on to the end of the context. With `"stream": true` it comes in pieces, as
/// server-sent events: each is `data: ` and a JSON object, the last one is `data: [DONE]`. An error in the middle of a
/// stream is an event with the error envelope.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "Generation",
    request_body(
        content = ChatCompletionRequest,
        examples(
            ("Basic" = (
                summary = "A question",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                    "max_tokens": 32,
                    "temperature": 0,
                }),
            )),
            ("Conversation" = (
                summary = "A conversation, with sampling of one's own",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "system", "content": "You answer in one sentence."},
                        {"role": "user", "content": "Why is the sky blue?"},
                        {"role": "assistant", "content": "Air scatters blue light more than red light."},
                        {"role": "user", "content": [{"type": "text", "text": "And the sunset?"}]},
                    ],
                    "max_tokens": 32,
                    "temperature": 0.7,
                    "top_p": 0.9,
                    "top_k": 40,
                    "min_p": 0.05,
                    "seed": 1,
                    "stop": ["\n\n"],
                }),
            )),
            ("Stream" = (
                summary = "A stream that ends with its usage",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "Count to five."}],
                    "max_tokens": 16,
                    "stream": true,
                    "stream_options": {"include_usage": true},
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The answer; in pieces if `stream` is true.",
            content(
                (Completion<ChatChoice> = "application/json", example = json!({
                    "id": "chatcmpl-4aec860564224a67873b0a0e3837a4bf",
                    "object": "chat.completion",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "choices": [{
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "The capital of France is Paris.",
                            "refusal": null,
                        },
                        "logprobs": null,
                        "finish_reason": "stop",
                    }],
                    "usage": {"prompt_tokens": 37, "completion_tokens": 7, "total_tokens": 44},
                })),
                (Completion<ChatChunkChoice> = "text/event-stream", example = json!({
                    "id": "chatcmpl-4aec860564224a67873b0a0e3837a4bf",
                    "object": "chat.completion.chunk",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "choices": [{
                        "index": 0,
                        "delta": {"content": "The"},
                        "logprobs": null,
                        "finish_reason": null,
                    }],
                })),
            ),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn chat_completions(
    State(app): State<Arc<App>>,
    Body(request): Body<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let (served, model) = loaded(&app, request.parameters.model.as_deref())?;
    let settings = Settings::new(&request.parameters, &model.engine.info().sampling)?;
    let chat = messages::chat(request)?;
    let encoder = model.clone();
    let prompt = blocking(move || encoder.encode_chat(&chat)).await?;
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
