use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use serde_json::{Value, json};

use super::{
    super::{
        body::Body,
        chat::{WantedReasoning, prompt::prompt, tools::Calling, variables},
        generation::begin,
        lookup::generating,
        openai::effort,
        waiting::{Asked, answered},
    },
    encode::{Encoding, encode},
    items::Items,
    keep::{self, Keeper},
    messages::{items, messages},
    read::{self, ReadRequest},
    settings::{self, Asker, includes},
    tools::calling,
    writer::{Draft, failure, send},
};
use crate::{
    app::App,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    openai::responses::{ResponseObject, ResponseRequest, ResponseStreamEvent},
    prompt::{Ending, RenderRequest},
};

/// Answers a conversation with items: reasoning, messages and calls.
///
/// Without `max_output_tokens` the response may go on to the end of the context. With `"stream": true` it comes as a stream of
/// server-sent events, each with its `type` as name; the last one is `data: [DONE]`. To continue a conversation, send its items,
/// including those of the model, as `input`. If the server keeps responses, `previous_response_id` stands for them.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "Generation",
    request_body(
        content = ResponseRequest,
        examples(
            ("Basic" = (
                summary = "A question",
                value = json!({
                    "model": "",
                    "input": "What is the capital of Japan?",
                    "max_output_tokens": 32,
                    "temperature": 0,
                }),
            )),
            ("Conversation" = (
                summary = "A conversation, with a call and its result",
                value = json!({
                    "model": "",
                    "instructions": "You answer in one sentence.",
                    "input": [
                        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Do I need an umbrella in Bonn?"}]},
                        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{\"city\": \"Bonn\"}"},
                        {"type": "function_call_output", "call_id": "call_1", "output": "Dry until the evening."},
                    ],
                    "max_output_tokens": 32,
                    "temperature": 0,
                    "truncation": "auto",
                }),
            )),
            ("Tools" = (
                summary = "A function and a custom tool, of which the model has to call one",
                value = json!({
                    "model": "",
                    "input": "Is it dark in Bonn?",
                    "tools": [
                        {
                            "type": "function",
                            "name": "light",
                            "parameters": {
                                "type": "object",
                                "properties": {"city": {"enum": ["Bonn", "Berlin"]}, "on": {"type": "boolean"}},
                                "required": ["city", "on"],
                                "additionalProperties": false,
                            },
                        },
                        {
                            "type": "custom",
                            "name": "wait",
                            "description": "Waits until a time",
                            "format": {"type": "grammar", "syntax": "regex", "definition": "[0-2][0-9]:[0-5][0-9]"},
                        },
                    ],
                    "tool_choice": "required",
                    "parallel_tool_calls": false,
                    "max_output_tokens": 64,
                }),
            )),
            ("Schema" = (
                summary = "A text that obeys a JSON Schema",
                value = json!({
                    "model": "",
                    "instructions": "You answer in JSON.",
                    "input": "What is the capital of Japan?",
                    "max_output_tokens": 64,
                    "temperature": 0,
                    "text": {"format": {"type": "json_schema", "name": "city", "strict": true, "schema": {
                        "type": "object",
                        "properties": {"city": {"enum": ["Kyoto", "Osaka", "Tokyo"]}},
                        "required": ["city"],
                        "additionalProperties": false,
                    }}},
                }),
            )),
            ("Stream" = (
                summary = "A stream with the log-probabilities of its tokens",
                value = json!({
                    "model": "",
                    "input": "What is the chemical symbol for silver?",
                    "max_output_tokens": 16,
                    "temperature": 0,
                    "include": ["message.output_text.logprobs"],
                    "top_logprobs": 2,
                    "stream": true,
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The response; in events if `stream` is true.",
            content(
                (ResponseObject = "application/json", example = json!(example(false))),
                (ResponseStreamEvent = "text/event-stream", example = json!({
                    "type": "response.output_text.delta",
                    "sequence_number": 4,
                    "item_id": "msg_0e3837a4bf4aec860564224a67873b0a",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": "The",
                    "logprobs": [],
                })),
            ),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn create_response(
    State(app): State<Arc<App>>,
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(read): Body<ReadRequest>,
) -> Result<Response, ApiError> {
    let model = read.request.model.clone();
    let asked = Asked {
        client: &client.clone(),
        model: model.as_deref(),
        is_streamed: read.request.stream.unwrap_or(false),
        failure,
    };
    answered(&app, asked, respond(app.clone(), arrival, client, read)).await
}

/// The response that the documentation shows.
pub fn example(is_kept: bool) -> Value {
    json!({
        "id": "resp_4aec860564224a67873b0a0e3837a4bf",
        "object": "response",
        "created_at": 1767225600,
        "status": "completed",
        "completed_at": 1767225601,
        "error": null,
        "incomplete_details": null,
        "model": "SmolLM2-135M-Instruct",
        "system_fingerprint": "fp_c7d1a3b5e9f02468",
        "output": [{
            "type": "message",
            "id": "msg_0e3837a4bf4aec860564224a67873b0a",
            "status": "completed",
            "role": "assistant",
            "content": [{
                "type": "output_text",
                "text": "The capital of Japan is Tokyo.",
                "annotations": [],
                "logprobs": [],
            }],
        }],
        "usage": {
            "input_tokens": 37, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 44,
        },
        "instructions": null,
        "max_output_tokens": 32,
        "max_tool_calls": null,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"effort": null, "summary": null},
        "truncation": "disabled",
        "top_logprobs": 0,
        "temperature": 0.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "previous_response_id": null,
        "store": is_kept,
        "background": false,
        "service_tier": "default",
        "metadata": {},
        "prompt_cache_key": null,
        "safety_identifier": null,
        "user": null,
    })
}

async fn respond(
    app: Arc<App>,
    arrival: Arrival,
    client: Client,
    read: ReadRequest,
) -> Result<Response, ApiError> {
    let ReadRequest {
        mut request,
        sent,
        left_out,
    } = read;
    let (served, model) = generating(&app, &client, request.model.as_deref()).await?;
    let deadline = arrival.deadline(app.now().config.server.request_timeout);
    let asker = Asker {
        client: client.clone(),
        deadline,
    };
    let (mut settings, wanted) = settings::read(&request, (&served, &model), asker)?;
    let (calling, names) = calling(
        request.tools.as_deref().unwrap_or_default(),
        request.tool_choice.as_ref(),
        request.parallel_tool_calls.unwrap_or(true),
    )?;
    let kept = keep::earlier(&app, client.id, &request).await?;
    let earlier = read::items(keep::EARLIER, &kept)?;
    let input = request.input.take().map(items).unwrap_or_default();
    let messages = messages(request.instructions.as_deref(), earlier, input)?;
    let keeper = Keeper::new(&app, client.id, &request, kept.into_iter().chain(sent))?;
    let chat = chat(messages, &request, calling.as_ref())?;
    let recalls = settings.request.cache_prompt;
    let (encoded, dropped) = encode(&model, chat, encoding(&request, recalls)).await?;
    settings.warnings.extend(warnings(&left_out, dropped));
    let (prompt, grammar) = prompt(&model, encoded, calling, wanted, recalls).await?;
    let answers = begin(&app, &served, &model, vec![prompt], &settings, grammar).await?;
    let items = Items::new(names, includes(&request, "reasoning.encrypted_content"));
    let response = settings::response(request, &settings, &served.id, &model.fingerprint);
    settings.note_id(&response.id);
    let draft = Draft {
        response,
        items,
        keeper,
    };
    send(&app, draft, answers, settings.stream).await
}

/// The conversation, as a chat template gets it.
fn chat(
    messages: Vec<Value>,
    request: &ResponseRequest,
    calling: Option<&Calling>,
) -> Result<RenderRequest, ApiError> {
    Ok(RenderRequest {
        messages,
        tools: calling.map(Calling::for_template).unwrap_or_default(),
        ending: Ending::GenerationPrompt,
        variables: variables(
            WantedReasoning {
                is_enabled: request.enable_thinking,
                effort: request
                    .reasoning
                    .and_then(|reasoning| reasoning.effort)
                    .map(effort),
                budget: request.reasoning.and_then(|reasoning| reasoning.max_tokens),
            },
            request.chat_template_kwargs.as_ref(),
        )?,
    })
}

fn encoding(request: &ResponseRequest, recalls: bool) -> Encoding {
    let room = request.max_output_tokens;
    Encoding {
        truncation: request.truncation.unwrap_or_default(),
        room: room.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
        recalls,
    }
}

/// Warnings about parts of a request that were left out: tools by their types, and a number of messages.
fn warnings(tools: &[String], messages: usize) -> impl Iterator<Item = String> {
    let tools = (!tools.is_empty()).then(|| {
        let kinds = tools.join("', '");
        let count = tools.len();
        tracing::info!(count, "tools that the server does not run were left out");
        format!("tools that this server does not run were left out: '{kinds}'")
    });
    let messages = (messages > 0).then(|| {
        format!(
            "the input is longer than the context: its {messages} oldest messages were left out"
        )
    });
    tools.into_iter().chain(messages)
}
