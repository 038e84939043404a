use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::Value;

use super::{
    answer::{Format, Prompt, answer, blocking, loaded},
    body::{Body, RequestBody, read},
    logprobs, messages,
    settings::{self, Settings},
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
    reply::Piece,
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
            ("Choices" = (
                summary = "Several answers, with the log-probabilities of their tokens",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "Name a color."}],
                    "max_tokens": 8,
                    "n": 2,
                    "seed": 1,
                    "logprobs": true,
                    "top_logprobs": 3,
                    "logit_bias": {"50": -100},
                    "dry_multiplier": 0.8,
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
                    "system_fingerprint": "fp_c7d1a3b5e9f02468",
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
                    "usage": {
                        "prompt_tokens": 37, "completion_tokens": 7, "total_tokens": 44,
                        "prompt_tokens_details": {"cached_tokens": 0},
                    },
                })),
                (Completion<ChatChunkChoice> = "text/event-stream", example = json!({
                    "id": "chatcmpl-4aec860564224a67873b0a0e3837a4bf",
                    "object": "chat.completion.chunk",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "system_fingerprint": "fp_c7d1a3b5e9f02468",
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
    let info = model.engine.info();
    settings::refuse_no_tokens(&request.parameters)?;
    let mut settings = Settings::new(&request.parameters, &info.sampling, info.vocab_size)?;
    settings.logprobs = wanted_logprobs(&request)?;
    let chat = messages::chat(request)?;
    let encoder = model.clone();
    let tokens = blocking(move || encoder.encode_chat(&chat)).await?;
    let prompts = vec![Prompt { tokens, echo: None }];
    answer::<Chat>(&app, served, &model, prompts, settings).await
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

    fn whole(index: u32, answer: Piece, reason: FinishReason) -> ChatChoice {
        ChatChoice {
            index,
            message: ChatMessage {
                role: Role::Assistant,
                content: Some(answer.text),
                refusal: None,
            },
            logprobs: answer.tokens.map(logprobs::for_chat),
            finish_reason: reason.into(),
        }
    }

    fn opening(index: u32) -> Option<ChatChunkChoice> {
        let delta = ChatDelta {
            role: Some(Role::Assistant),
            content: Some(String::new()),
        };
        Some(chunk(index, delta))
    }

    fn piece(index: u32, piece: Piece) -> ChatChunkChoice {
        let delta = ChatDelta {
            role: None,
            content: Some(piece.text),
        };
        ChatChunkChoice {
            logprobs: piece.tokens.map(logprobs::for_chat),
            ..chunk(index, delta)
        }
    }

    fn end(index: u32, reason: FinishReason) -> ChatChunkChoice {
        ChatChunkChoice {
            finish_reason: Some(reason.into()),
            ..chunk(index, ChatDelta::default())
        }
    }
}

fn chunk(index: u32, delta: ChatDelta) -> ChatChunkChoice {
    ChatChunkChoice {
        index,
        delta,
        logprobs: None,
        finish_reason: None,
    }
}

/// How many of the most likely tokens to give, if any log-probabilities are wanted.
fn wanted_logprobs(request: &ChatCompletionRequest) -> Result<Option<u32>, ApiError> {
    let top = settings::top_logprobs("top_logprobs", request.top_logprobs)?.unwrap_or(0);
    match request.logprobs.unwrap_or(false) {
        true => Ok(Some(top)),
        false if top == 0 => Ok(None),
        false => Err(ApiError::invalid_parameter(
            "top_logprobs",
            "'top_logprobs' is only allowed with \"logprobs\": true",
        )),
    }
}
