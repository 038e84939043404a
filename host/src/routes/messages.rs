use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    anthropic::{self, AnswerHead, streamed, whole},
    body::{Body, RequestBody, read},
    chat::prompt::{encode, prompt},
    generation::{RouteParameters, Settings, begin},
    lookup::generating,
    waiting::{Asked, answered},
};
use crate::{
    anthropic::{Message, MessagesRequest, StreamEvent},
    app::App,
    error::{AnthropicError, ApiError},
    layers::{arrival::Arrival, client::Client},
};

/// Answers a conversation, as Anthropic's API does.
///
/// With `"stream": true` the answer comes as a stream of server-sent events: `message_start`, then for each block
/// `content_block_start`, deltas and `content_block_stop`, then `message_delta` and `message_stop`. An error in the middle of
/// a stream is an event `error` with the error envelope.
///
/// The key may come as `x-api-key`. `anthropic-version` and `anthropic-beta` are accepted, without effect.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "Generation",
    request_body(
        content = MessagesRequest,
        examples(
            ("Basic" = (
                summary = "A question",
                value = json!({
                    "model": "",
                    "max_tokens": 32,
                    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
                    "temperature": 0,
                }),
            )),
            ("Conversation" = (
                summary = "A conversation with instructions",
                value = json!({
                    "model": "",
                    "max_tokens": 32,
                    "system": [{"type": "text", "text": "You answer in one sentence.", "cache_control": {"type": "ephemeral"}}],
                    "messages": [
                        {"role": "user", "content": "What is the chemical symbol for gold?"},
                        {"role": "assistant", "content": "The chemical symbol for gold is Au."},
                        {"role": "user", "content": [{"type": "text", "text": "What is the chemical symbol for silver?"}]},
                    ],
                    "temperature": 0,
                    "stop_sequences": ["\n\n"],
                }),
            )),
            ("Tools" = (
                summary = "A tool that the model has to call",
                value = json!({
                    "model": "",
                    "max_tokens": 64,
                    "messages": [{"role": "user", "content": "Is it dark in Bonn?"}],
                    "tools": [{
                        "name": "light",
                        "input_schema": {
                            "type": "object",
                            "properties": {"city": {"enum": ["Bonn", "Berlin"]}, "on": {"type": "boolean"}},
                            "required": ["city", "on"],
                            "additionalProperties": false,
                        },
                    }],
                    "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
                }),
            )),
            ("Tool result" = (
                summary = "The result of a call, for the model to answer with",
                value = json!({
                    "model": "",
                    "max_tokens": 32,
                    "messages": [
                        {"role": "user", "content": "Do I need an umbrella in Bonn?"},
                        {"role": "assistant", "content": [
                            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}},
                        ]},
                        {"role": "user", "content": [
                            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Dry until the evening."},
                        ]},
                    ],
                }),
            )),
            ("Schema" = (
                summary = "An answer that follows a JSON Schema",
                value = json!({
                    "model": "",
                    "max_tokens": 64,
                    "system": "You answer in JSON.",
                    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
                    "temperature": 0,
                    "output_config": {"format": {"type": "json_schema", "schema": {
                        "type": "object",
                        "properties": {"city": {"enum": ["Kyoto", "Osaka", "Tokyo"]}},
                        "required": ["city"],
                        "additionalProperties": false,
                    }}},
                }),
            )),
            ("Stream" = (
                summary = "A stream",
                value = json!({
                    "model": "",
                    "max_tokens": 16,
                    "messages": [{"role": "user", "content": "What is the chemical symbol for silver?"}],
                    "temperature": 0,
                    "stream": true,
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The answer; in pieces if `stream` is true.",
            content(
                (Message = "application/json", example = json!({
                    "id": "msg_4aec860564224a67873b0a0e3837a4bf",
                    "type": "message",
                    "role": "assistant",
                    "model": "SmolLM2-135M-Instruct",
                    "content": [{"type": "text", "text": "The capital of Japan is Tokyo."}],
                    "stop_reason": "end_turn",
                    "stop_sequence": null,
                    "usage": {
                        "input_tokens": 37, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                        "output_tokens": 7,
                    },
                })),
                (StreamEvent = "text/event-stream", example = json!({
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": "The"},
                })),
            ),
        ),
        AnthropicError,
    ),
)]
pub async fn messages(
    State(app): State<Arc<App>>,
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<MessagesRequest>,
) -> Result<Response, ApiError> {
    let model = request.conversation.model.clone();
    let asked = Asked {
        client: &client.clone(),
        model: model.as_deref(),
        is_streamed: request.stream.unwrap_or(false),
        failure: |error| vec![anthropic::error(error)],
    };
    answered(&app, asked, answer(app.clone(), arrival, client, request)).await
}

async fn answer(
    app: Arc<App>,
    arrival: Arrival,
    client: Client,
    request: MessagesRequest,
) -> Result<Response, ApiError> {
    let (served, model) = generating(&app, &client, request.conversation.model.as_deref()).await?;
    let own = RouteParameters {
        client,
        deadline: arrival.deadline(app.now().config.server.request_timeout),
        prompts: 1,
        reasoning_budget: anthropic::reasoning_budget(&request.conversation),
        ..RouteParameters::default()
    };
    let bounds = served.bounds;
    let parameters = anthropic::parameters(&request, bounds.max_output_tokens);
    let settings = Settings {
        stop: anthropic::stop_sequences(&request)?,
        ..Settings::new(&parameters, own, &model.facts().info, bounds)?
    };
    let shows_thinking = anthropic::shows_thinking(&request.conversation);
    let wanted = anthropic::wanted(&request.conversation);
    let (chat, calling) = anthropic::chat(request.conversation)?;
    let encoded = encode(&model, chat, true).await?;
    let length = encoded.input.tokens.len();
    let head = AnswerHead::new(&served.id, length, settings.stop.clone(), shows_thinking);
    settings.note_id(&head.id);
    let (prompt, grammar) = prompt(&model, encoded, calling, wanted, true).await?;
    let answers = begin(
        &app,
        &served,
        &model,
        vec![prompt],
        &settings,
        grammar.answer,
    )
    .await?;
    let reply = answers.replies.into_iter().next();
    let reply = reply.ok_or_else(|| ApiError::internal("a request has no answer"))?;
    if settings.stream {
        let keep_alive = app.now().config.server.keep_alive_interval;
        let end = app.cut_off.clone().cancelled_owned();
        return Ok(streamed(anthropic::begun(reply), head, keep_alive, end));
    }
    Ok(Json(whole(reply, head).await?).into_response())
}

impl RequestBody for MessagesRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        Ok(Self {
            conversation: RequestBody::read(fields)?,
            ..read(fields)?
        })
    }
}
