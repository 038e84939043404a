use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::Value;

use super::{
    answer::{Format, answer, blocking, loaded},
    body::{Body, RequestBody, read},
    settings::Settings,
    unsupported,
};
use crate::{
    app::App,
    engine::FinishReason,
    error::{AnyError, ApiError, GenerationError, ModelError},
    model::LoadedModel,
    openai::{Completion, CompletionChoice, CompletionRequest, GenerationParameters, Prompt},
};

/// As many as OpenAI's.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Continues a text.
///
/// Without `max_tokens` by 16 tokens. With `"stream": true` the text comes in pieces, as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "Generation",
    request_body(
        content = CompletionRequest,
        examples(
            ("Basic" = (
                summary = "A text to continue",
                value = json!({
                    "model": "",
                    "prompt": "Once upon a time",
                    "max_tokens": 16,
                }),
            )),
            ("Stream" = (
                summary = "A stream, always of the most likely tokens",
                value = json!({
                    "model": "",
                    "prompt": "The planets are Mercury, Venus,",
                    "max_tokens": 16,
                    "temperature": 0,
                    "stream": true,
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The continuation; in pieces if `stream` is true.",
            content(
                (Completion<CompletionChoice> = "application/json", example = json!({
                    "id": "cmpl-0e3837a4bf4aec860564224a67873b0a",
                    "object": "text_completion",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "choices": [{
                        "text": ", in a small village,",
                        "index": 0,
                        "logprobs": null,
                        "finish_reason": "length",
                    }],
                    "usage": {"prompt_tokens": 4, "completion_tokens": 16, "total_tokens": 20},
                })),
                (Completion<CompletionChoice> = "text/event-stream", example = json!({
                    "id": "cmpl-0e3837a4bf4aec860564224a67873b0a",
                    "object": "text_completion",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "choices": [{
                        "text": ", in",
                        "index": 0,
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
pub async fn completions(
    State(app): State<Arc<App>>,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let (served, model) = loaded(&app, request.parameters.model.as_deref())?;
    let mut settings = Settings::new(&request.parameters, &model.engine.info().sampling)?;
    settings.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
    let prompt = tokens(&model, request.prompt).await?;
    answer::<Text>(&app, served, &model, prompt, settings).await
}

impl RequestBody for CompletionRequest {
    fn check(fields: &Value) -> Result<(), ApiError> {
        unsupported::check_completions(fields)?;
        // serde loses the names of fields in a flattened struct.
        read::<GenerationParameters>(fields).map(drop)
    }
}

async fn tokens(model: &Arc<LoadedModel>, prompt: Prompt) -> Result<Vec<u32>, ApiError> {
    match single(prompt)? {
        Single::Tokens(tokens) => check_tokens(tokens, model.engine.info().vocab_size),
        Single::Text(text) => {
            let model = model.clone();
            blocking(move || model.encode_text(&text)).await
        }
    }
}

#[derive(Debug, PartialEq)]
enum Single {
    Text(String),
    Tokens(Vec<u32>),
}

fn single(prompt: Prompt) -> Result<Single, ApiError> {
    match prompt {
        Prompt::Text(text) => Ok(Single::Text(text)),
        Prompt::Tokens(tokens) => Ok(Single::Tokens(tokens)),
        Prompt::Texts(texts) => only(texts).map(Single::Text),
        Prompt::TokenLists(lists) => only(lists).map(Single::Tokens),
    }
}

fn only<T>(prompts: Vec<T>) -> Result<T, ApiError> {
    let [prompt] = <[T; 1]>::try_from(prompts).map_err(|prompts| {
        let message = format!(
            "'prompt' has {} prompts: send one for each request",
            prompts.len()
        );
        ApiError::unsupported("prompt", message)
    })?;
    Ok(prompt)
}

fn check_tokens(tokens: Vec<u32>, vocab_size: u32) -> Result<Vec<u32>, ApiError> {
    match tokens.iter().find(|&&token| token >= vocab_size) {
        None => Ok(tokens),
        Some(token) => {
            let last = vocab_size.saturating_sub(1);
            let message =
                format!("'prompt' has the token {token}; the model's go from 0 to {last}");
            Err(ApiError::invalid_parameter("prompt", message))
        }
    }
}

/// How a text is continued.
pub struct Text;

impl Format for Text {
    type Choice = CompletionChoice;
    type ChunkChoice = CompletionChoice;

    const ID_PREFIX: &str = "cmpl-";
    const OBJECT: &str = "text_completion";
    const CHUNK_OBJECT: &str = "text_completion";

    fn whole(text: String, reason: FinishReason) -> CompletionChoice {
        choice(text, Some(reason))
    }

    fn opening() -> Option<CompletionChoice> {
        None
    }

    fn text(text: String) -> CompletionChoice {
        choice(text, None)
    }

    fn end(reason: FinishReason) -> CompletionChoice {
        choice(String::new(), Some(reason))
    }
}

fn choice(text: String, reason: Option<FinishReason>) -> CompletionChoice {
    CompletionChoice {
        text,
        index: 0,
        logprobs: None,
        finish_reason: reason.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_of_a_single_prompt_is_read() {
        let text = Single::Text("a".to_owned());
        let tokens = Single::Tokens(vec![1, 2]);
        for (form, expected) in [
            (json!("a"), &text),
            (json!(["a"]), &text),
            (json!([1, 2]), &tokens),
            (json!([[1, 2]]), &tokens),
            (json!([]), &Single::Tokens(vec![])),
        ] {
            let prompt = serde_json::from_value(form).unwrap();
            assert_eq!(single(prompt).unwrap(), *expected);
        }
    }

    #[test]
    fn several_prompts_are_refused() {
        for form in [json!(["a", "b"]), json!([[1], [2]])] {
            assert!(single(serde_json::from_value(form).unwrap()).is_err());
        }
    }

    #[test]
    fn tokens_beyond_the_vocabulary_are_refused() {
        assert_eq!(check_tokens(vec![0, 9], 10).unwrap(), [0, 9]);
        assert!(check_tokens(vec![0, 10], 10).is_err());
    }
}
