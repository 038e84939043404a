use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use serde_json::Value;

use super::{
    blocking::blocking,
    body::{Body, RequestBody, read},
    checks,
    generation::{ReadyPrompt, RouteParameters, Settings, check_count, settings},
    lookup::generating,
    openai::{Format, answer, finish_reason, logprobs, parameters, wanted},
    waiting::{Asked, answered, failure},
};
use crate::{
    app::App,
    engine::PromptTokens,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    models::{LoadedModel, PromptError},
    openai::{Completion, CompletionChoice, CompletionRequest, Prompt},
    prompt::{InfillTokens, encode_part},
    reply::{AnswerPiece, Echo, End},
};

/// Default of `max_tokens`, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Continues a text.
///
/// Without `max_tokens` the answer has up to 16 tokens. With `"stream": true` it comes as a stream of server-sent events.
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
            ("Grammar" = (
                summary = "A text that matches a regular expression",
                value = json!({
                    "model": "",
                    "prompt": "The capital of France is",
                    "max_tokens": 16,
                    "temperature": 0,
                    "grammar": {"type": "regex", "value": " [A-Z][a-z]{2,12}\\."},
                }),
            )),
            ("Echo" = (
                summary = "How likely a text is: nothing is generated",
                value = json!({
                    "model": "",
                    "prompt": "The sky is blue.",
                    "echo": true,
                    "logprobs": 2,
                    "max_tokens": 0,
                }),
            )),
            ("Prompts" = (
                summary = "Two prompts, with the best of three answers to each",
                value = json!({
                    "model": "",
                    "prompt": ["Red, green,", "One, two,"],
                    "max_tokens": 8,
                    "best_of": 3,
                    "seed": 1,
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
                    "system_fingerprint": "fp_c7d1a3b5e9f02468",
                    "choices": [{
                        "text": ", in a small village,",
                        "index": 0,
                        "logprobs": null,
                        "finish_reason": "length",
                    }],
                    "usage": {
                        "prompt_tokens": 4, "completion_tokens": 16, "total_tokens": 20,
                        "prompt_tokens_details": {"cached_tokens": 0},
                    },
                })),
                (Completion<CompletionChoice> = "text/event-stream", example = json!({
                    "id": "cmpl-0e3837a4bf4aec860564224a67873b0a",
                    "object": "text_completion",
                    "created": 1767225600,
                    "model": "SmolLM2-135M-Instruct",
                    "system_fingerprint": "fp_c7d1a3b5e9f02468",
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
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    let model = request.parameters.model.clone();
    let asked = Asked {
        client: &client.clone(),
        model: model.as_deref(),
        is_streamed: request.parameters.stream.unwrap_or(false),
        failure,
    };
    answered(&app, asked, complete(app.clone(), arrival, client, request)).await
}

async fn complete(
    app: Arc<App>,
    arrival: Arrival,
    client: Client,
    request: CompletionRequest,
) -> Result<Response, ApiError> {
    let (served, model) = generating(&app, &client, request.parameters.model.as_deref()).await?;
    let is_echoed = request.echo.unwrap_or(false);
    let sources = sources(request.prompt);
    let own = RouteParameters {
        client,
        deadline: arrival.deadline(app.now().config.server.request_timeout),
        prompts: sources.len(),
        max_tokens: Some(DEFAULT_MAX_TOKENS),
        logprobs: settings::top_logprobs("logprobs", request.logprobs)?,
        echo: is_echoed,
        best_of: request.best_of,
        reasoning_budget: None,
    };
    let parameters = parameters(&request.parameters)?;
    let settings = Settings::new(&parameters, own, &model.facts().info, served.bounds)?;
    let wanted = wanted(&request.parameters)?;
    let suffix = request.suffix.filter(|suffix| !suffix.is_empty());
    if is_echoed && suffix.is_some() {
        let message = "'suffix' is not possible with \"echo\": true";
        return Err(ApiError::invalid_parameter("suffix", message));
    }
    check_count(sources.len(), &settings, &model)?;
    let adds_special = request.add_special_tokens.unwrap_or(true);
    let encoder = model.clone();
    let prompts = blocking(move || {
        let encode = |source| match &suffix {
            Some(suffix) => encode_infill(&encoder, source, suffix, adds_special),
            None => encode(&encoder, source, is_echoed, adds_special),
        };
        sources
            .into_iter()
            .map(encode)
            .collect::<Result<_, ApiError>>()
    });
    let prompts = prompts.await?;
    let grammar = match wanted {
        Some(wanted) => Some(wanted.compile(&model).await?),
        None => None,
    };
    answer::<CompletionFormat>(&app, &served, &model, prompts, settings, grammar).await
}

impl RequestBody for CompletionRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        Ok(Self {
            parameters: read(fields)?,
            ..read(fields)?
        })
    }
}

/// A prompt as the client sent it.
#[derive(Debug, PartialEq)]
enum PromptSource {
    Text(String),
    Tokens(Vec<u32>),
}

fn sources(prompt: Prompt) -> Vec<PromptSource> {
    match prompt {
        Prompt::Text(text) => vec![PromptSource::Text(text)],
        Prompt::Tokens(tokens) => vec![PromptSource::Tokens(tokens)],
        Prompt::Texts(texts) => texts.into_iter().map(PromptSource::Text).collect(),
        Prompt::TokenLists(lists) => lists.into_iter().map(PromptSource::Tokens).collect(),
    }
}

fn encode(
    model: &LoadedModel,
    source: PromptSource,
    is_echoed: bool,
    adds_special: bool,
) -> Result<ReadyPrompt, ApiError> {
    let (tokens, text) = match source {
        PromptSource::Tokens(tokens) => (tokens, None),
        PromptSource::Text(text) if adds_special => (model.encode_text(&text)?, Some(text)),
        PromptSource::Text(text) => (model.encode_bare_text(&text)?, Some(text)),
    };
    let facts = model.facts();
    check_tokens(&tokens, facts.info.vocab_size)?;
    let echo = is_echoed.then(|| match text {
        Some(text) => Echo::of_text(text, tokens.clone()),
        None => Echo::of_tokens(tokens.clone(), &facts.vocabulary),
    });
    Ok(ReadyPrompt {
        input: PromptTokens::new(tokens),
        echo,
        ..ReadyPrompt::default()
    })
}

/// Encodes an infill prompt, whose answer fills the gap between the source and the suffix.
fn encode_infill(
    model: &LoadedModel,
    source: PromptSource,
    suffix: &str,
    adds_special: bool,
) -> Result<ReadyPrompt, ApiError> {
    let facts = model.facts();
    let infill = InfillTokens::find(&facts.vocabulary).ok_or_else(|| {
        let message = "'suffix' needs a model that is trained to fill in the middle, and this one has no tokens for that: leave it out";
        ApiError::unsupported("suffix", message)
    })?;
    let before = match source {
        PromptSource::Tokens(tokens) => tokens,
        PromptSource::Text(text) => {
            encode_part(&text, &*model.runner).map_err(PromptError::from)?
        }
    };
    checks::tokens("prompt", &before, facts.info.vocab_size)?;
    let bos = facts.info.bos.filter(|_| adds_special);
    let tokens = infill.prompt(&before, suffix, bos, &*model.runner);
    let tokens = tokens.map_err(PromptError::from)?;
    Ok(ReadyPrompt {
        input: PromptTokens::new(tokens),
        ..ReadyPrompt::default()
    })
}

fn check_tokens(tokens: &[u32], vocab_size: u32) -> Result<(), ApiError> {
    if tokens.is_empty() {
        let message = "'prompt' is empty: send at least one token";
        return Err(ApiError::invalid_parameter("prompt", message));
    }
    checks::tokens("prompt", tokens, vocab_size)
}

/// The format of answers to plain prompts.
pub struct CompletionFormat;

impl Format for CompletionFormat {
    type Choice = CompletionChoice;
    type ChunkChoice = CompletionChoice;

    const ID_PREFIX: &str = "cmpl-";
    const OBJECT: &str = "text_completion";
    const CHUNK_OBJECT: &str = "text_completion";

    fn whole(index: u32, answer: AnswerPiece, end: &End) -> CompletionChoice {
        CompletionChoice {
            finish_reason: Some(finish_reason(end)),
            ..Self::piece(index, answer)
        }
    }

    fn opening(_index: u32) -> Option<CompletionChoice> {
        None
    }

    fn piece(index: u32, piece: AnswerPiece) -> CompletionChoice {
        CompletionChoice {
            text: piece.text,
            index,
            logprobs: piece.tokens.map(logprobs::for_completion),
            finish_reason: None,
        }
    }

    fn end(index: u32, end: &End) -> CompletionChoice {
        Self::whole(index, AnswerPiece::default(), end)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_of_a_prompt_is_read() {
        let text = |text: &str| PromptSource::Text(text.to_owned());
        for (form, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![PromptSource::Tokens(vec![1, 2])]),
            (
                json!([[1, 2], [3]]),
                vec![
                    PromptSource::Tokens(vec![1, 2]),
                    PromptSource::Tokens(vec![3]),
                ],
            ),
            (json!([]), vec![PromptSource::Tokens(vec![])]),
        ] {
            let prompt = serde_json::from_value(form).unwrap();
            assert_eq!(sources(prompt), expected);
        }
    }

    #[test]
    fn a_prompt_has_tokens_that_the_vocabulary_has() {
        assert!(check_tokens(&[0, 9], 10).is_ok());
        assert!(check_tokens(&[0, 10], 10).is_err());
        assert!(check_tokens(&[], 10).is_err());
    }
}
