mod calls;
pub mod messages;
mod tools;
mod unsupported;

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};

use super::{
    body::Body,
    chat::prompt::{encode, prompt},
    generation::{RouteParameters, Settings, settings},
    lookup::generating,
    openai::{Format, answer, finish_reason, logprobs, parameters, wanted},
    waiting::{Asked, answered, failure},
};
use crate::{
    app::App,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    openai::{
        ChatChoice, ChatChunkChoice, ChatCompletionRequest, ChatDelta, ChatMessage, Completion,
        Role,
    },
    reply::{AnswerPiece, End},
};

/// Answers a conversation.
///
/// Without `max_tokens` the answer may go on to the end of the context. With `"stream": true` it comes as a stream of
/// server-sent events: each is `data: ` and a JSON object, the last one is `data: [DONE]`. An error in the middle of a
/// stream is an event with the error envelope.
///
/// Calls of the `tools` come as `tool_calls`, in streams piece by piece. The model's reasoning before its answer comes as
/// `reasoning_content`. If the model's chat template does not support tools, the prompt describes them in words.
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
                    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
                    "max_tokens": 32,
                    "temperature": 0,
                }),
            )),
            ("Conversation" = (
                summary = "A conversation",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "system", "content": "You answer in one sentence."},
                        {"role": "user", "content": "What is the chemical symbol for gold?"},
                        {"role": "assistant", "content": "The chemical symbol for gold is Au."},
                        {"role": "user", "content": [{"type": "text", "text": "What is the chemical symbol for silver?"}]},
                    ],
                    "max_tokens": 32,
                    "temperature": 0,
                    "stop": ["\n\n"],
                }),
            )),
            ("Schema" = (
                summary = "An answer that obeys a JSON Schema",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "system", "content": "You answer in JSON."},
                        {"role": "user", "content": "What is the capital of Japan?"},
                    ],
                    "max_tokens": 64,
                    "temperature": 0,
                    "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": {
                        "type": "object",
                        "properties": {"city": {"enum": ["Kyoto", "Osaka", "Tokyo"]}},
                        "required": ["city"],
                        "additionalProperties": false,
                    }}},
                }),
            )),
            ("Choices" = (
                summary = "Several answers, with the log-probabilities of their tokens",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "Name a color."}],
                    "max_tokens": 8,
                    "temperature": 0.7,
                    "top_p": 0.9,
                    "top_k": 40,
                    "min_p": 0.05,
                    "n": 2,
                    "seed": 1,
                    "logprobs": true,
                    "top_logprobs": 3,
                    "logit_bias": {"50": -100},
                    "dry_multiplier": 0.8,
                }),
            )),
            ("Tools" = (
                summary = "A function that the model may call",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "system", "content": "Look the weather up when you are asked about it."},
                        {"role": "user", "content": "Do I need an umbrella in Bonn?"},
                    ],
                    "tools": [{
                        "type": "function",
                        "function": {
                            "name": "weather",
                            "description": "The weather of today",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                                "additionalProperties": false,
                            },
                        },
                    }],
                    "max_tokens": 64,
                    "temperature": 0,
                }),
            )),
            ("Forced call" = (
                summary = "A function that the model has to call",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "Is it dark in Bonn?"}],
                    "tools": [{
                        "type": "function",
                        "function": {
                            "name": "light",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"enum": ["Bonn", "Berlin"]}, "on": {"type": "boolean"}},
                                "required": ["city", "on"],
                                "additionalProperties": false,
                            },
                        },
                    }],
                    "tool_choice": {"type": "function", "function": {"name": "light"}},
                    "max_tokens": 64,
                }),
            )),
            ("Tool result" = (
                summary = "The result of a call, for the model to answer with",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "user", "content": "Do I need an umbrella in Bonn?"},
                        {"role": "assistant", "content": null, "tool_calls": [{
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": "{\"city\": \"Bonn\"}"},
                        }]},
                        {"role": "tool", "tool_call_id": "call_1", "content": "Dry until the evening."},
                    ],
                    "max_tokens": 32,
                    "temperature": 0,
                }),
            )),
            ("Prefill" = (
                summary = "The beginning of an answer, to go on with",
                value = json!({
                    "model": "",
                    "messages": [
                        {"role": "user", "content": "What is the capital of Japan?"},
                        {"role": "assistant", "content": "The capital of Japan is"},
                    ],
                    "continue_final_message": true,
                    "max_tokens": 16,
                    "temperature": 0,
                }),
            )),
            ("Stream" = (
                summary = "A stream that ends with its usage",
                value = json!({
                    "model": "",
                    "messages": [{"role": "user", "content": "What is the chemical symbol for silver?"}],
                    "max_tokens": 16,
                    "temperature": 0,
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
                            "content": "The capital of Japan is Tokyo.",
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
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let model = request.parameters.model.clone();
    let asked = Asked {
        client: &client.clone(),
        model: model.as_deref(),
        is_streamed: request.parameters.stream.unwrap_or(false),
        failure,
    };
    answered(&app, asked, chat(app.clone(), arrival, client, request)).await
}

async fn chat(
    app: Arc<App>,
    arrival: Arrival,
    client: Client,
    request: ChatCompletionRequest,
) -> Result<Response, ApiError> {
    let (served, model) = generating(&app, &client, request.parameters.model.as_deref()).await?;
    let own = RouteParameters {
        client,
        deadline: arrival.deadline(app.now().config.server.request_timeout),
        prompts: 1,
        logprobs: wanted_logprobs(&request)?,
        reasoning_budget: request.thinking_token_budget,
        ..RouteParameters::default()
    };
    let parameters = parameters(&request.parameters)?;
    let settings = Settings::new(&parameters, own, &model.facts().info, served.bounds)?;
    let wanted = wanted(&request.parameters)?;
    let (chat, calling) = messages::chat(request)?;
    let is_cached = settings.request.cache_prompt;
    let encoded = encode(&model, chat, is_cached).await?;
    let (prompt, grammar) = prompt(&model, encoded, calling, wanted, is_cached).await?;
    answer::<ChatFormat>(&app, &served, &model, vec![prompt], settings, grammar).await
}

/// The format of answers to chats.
pub struct ChatFormat;

impl Format for ChatFormat {
    type Choice = ChatChoice;
    type ChunkChoice = ChatChunkChoice;

    const ID_PREFIX: &str = "chatcmpl-";
    const OBJECT: &str = "chat.completion";
    const CHUNK_OBJECT: &str = "chat.completion.chunk";

    fn whole(index: u32, answer: AnswerPiece, end: &End) -> ChatChoice {
        let tool_calls = calls::whole(answer.calls);
        // An answer with calls needs no text.
        let is_silent = tool_calls.is_some() && answer.text.is_empty();
        ChatChoice {
            index,
            message: ChatMessage {
                role: Role::Assistant,
                content: (!is_silent).then_some(answer.text),
                reasoning_content: unless_empty(answer.reasoning),
                tool_calls,
                refusal: None,
            },
            logprobs: answer.tokens.map(logprobs::for_chat),
            finish_reason: finish_reason(end),
        }
    }

    fn opening(index: u32) -> Option<ChatChunkChoice> {
        let delta = ChatDelta {
            role: Some(Role::Assistant),
            content: Some(String::new()),
            ..ChatDelta::default()
        };
        Some(chunk(index, delta))
    }

    fn piece(index: u32, piece: AnswerPiece) -> ChatChunkChoice {
        // A piece that has only log-probabilities counts as text.
        let is_text = !piece.text.is_empty() || piece.has_no_content();
        let delta = ChatDelta {
            role: None,
            content: is_text.then_some(piece.text),
            reasoning_content: unless_empty(piece.reasoning),
            tool_calls: calls::chunks(piece.calls),
        };
        ChatChunkChoice {
            logprobs: piece.tokens.map(logprobs::for_chat),
            ..chunk(index, delta)
        }
    }

    fn end(index: u32, end: &End) -> ChatChunkChoice {
        ChatChunkChoice {
            finish_reason: Some(finish_reason(end)),
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

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The number of most likely tokens to return. None if no log-probabilities are requested.
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
