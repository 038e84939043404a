use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tenon_plugin_api::EmbedderInfo;

use super::{
    blocking::blocking,
    body::{Body, RequestBody, read},
    checks,
    lookup::loaded,
};
use crate::{
    app::App,
    engine::Failure,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    models::{LoadedModel, ServedModel},
    openai::{
        EmbeddingList, EmbeddingObject, EmbeddingRequest, EmbeddingUsage, EmbeddingVector,
        EncodingFormat, Prompt,
    },
    plugin::ModelFacts,
    reply::note_prompt,
};

/// Most texts in a request, as in OpenAI's API.
const MAX_TEXTS: usize = 2048;
/// Most tokens in a request, as in OpenAI's API.
const MAX_TOKENS: usize = 300_000;

/// Turns texts into vectors. Texts with a similar meaning get vectors that are close to each other.
///
/// `/v1/models` says which models make embeddings. Control tokens that are written in a text are encoded as control tokens.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "Generation",
    request_body(
        content = EmbeddingRequest,
        examples(
            ("Texts" = (
                summary = "Two texts",
                value = json!({
                    "model": "",
                    "input": ["The sky is blue.", "Le ciel est bleu."],
                }),
            )),
            ("Base64" = (
                summary = "A short vector of one text, in base64",
                value = json!({
                    "model": "",
                    "input": "The sky is blue.",
                    "encoding_format": "base64",
                    "dimensions": 16,
                }),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The vectors.",
            body = EmbeddingList,
            example = json!({
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
                "model": "SmolLM2-135M-Instruct",
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
            }),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn embeddings(
    State(app): State<Arc<App>>,
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<EmbeddingRequest>,
) -> Result<Json<EmbeddingList>, ApiError> {
    let (served, model) = loaded(&app, &client, request.model.as_deref()).await?;
    let facts = model.facts();
    let embedder = embedder(&served, &facts)?;
    let dimensions = dimensions(request.dimensions, embedder.dimensions)?;
    let texts = texts(&model, request.input).await?;
    check_lengths(&texts, facts.longest_embedded(embedder))?;
    let account = client.account.as_deref();
    if let Some(account) = account {
        account.check_tokens()?;
    }
    let tokens = texts.iter().map(Vec::len).sum();
    for text in &texts {
        note_prompt(account, text, &facts.vocabulary);
    }
    let vectors = tokio::select! {
        biased;
        vectors = model.runner.embed(client.id, texts) => vectors?,
        () = arrival.overdue(app.now().config.server.request_timeout) => return Err(Failure::Overdue.into()),
    };
    app.metrics.prompt(&served.id, tokens, account);
    let format = request.encoding_format.unwrap_or_default();
    let vectors = vectors.chunks_exact(embedder.dimensions as usize);
    let data = vectors.enumerate().map(|(index, vector)| EmbeddingObject {
        object: "embedding",
        index,
        embedding: write(shorten(vector, dimensions), format),
    });
    Ok(Json(EmbeddingList {
        object: "list",
        data: data.collect(),
        model: served.id.clone(),
        usage: EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

fn embedder<'a>(served: &ServedModel, facts: &'a ModelFacts) -> Result<&'a EmbedderInfo, ApiError> {
    let why_not = match &facts.embedder {
        Some(embedder) if embedder.pair_template().is_none() => return Ok(embedder),
        Some(_) => "judges pairs of texts and makes no embeddings: use it with /v1/rerank",
        None => "makes no embeddings",
    };
    let message = format!("the model '{}' {why_not}", served.id);
    Err(ApiError::unsupported("model", message))
}

impl RequestBody for EmbeddingRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        read(fields)
    }
}

fn dimensions(wanted: Option<u32>, all: u32) -> Result<usize, ApiError> {
    match wanted {
        Some(wanted) if wanted == 0 || wanted > all => {
            let message =
                format!("'dimensions' must be from 1 to {all} for this model, not {wanted}");
            Err(ApiError::invalid_parameter("dimensions", message))
        }
        wanted => Ok(wanted.unwrap_or(all) as usize),
    }
}

/// The tokens of each text. Input of text is encoded, and input of tokens is checked.
async fn texts(model: &Arc<LoadedModel>, input: Prompt) -> Result<Vec<Vec<u32>>, ApiError> {
    let vocab_size = model.facts().info.vocab_size;
    let check = |tokens: Vec<u32>| {
        checks::tokens("input", &tokens, vocab_size)?;
        Ok(tokens)
    };
    match input {
        Prompt::Tokens(tokens) => Ok(vec![check(tokens)?]),
        Prompt::TokenLists(lists) => count(lists)?.into_iter().map(check).collect(),
        Prompt::Text(text) => encode(model.clone(), vec![text]).await,
        Prompt::Texts(texts) => encode(model.clone(), count(texts)?).await,
    }
}

async fn encode(model: Arc<LoadedModel>, texts: Vec<String>) -> Result<Vec<Vec<u32>>, ApiError> {
    if texts.iter().any(String::is_empty) {
        return Err(empty());
    }
    blocking(move || model.encode_texts(texts)).await
}

fn count<T>(texts: Vec<T>) -> Result<Vec<T>, ApiError> {
    if texts.len() > MAX_TEXTS {
        let count = texts.len();
        let message = format!("'input' may have up to {MAX_TEXTS} texts, not {count}");
        return Err(ApiError::invalid_parameter("input", message));
    }
    Ok(texts)
}

fn check_lengths(texts: &[Vec<u32>], max_tokens: u32) -> Result<(), ApiError> {
    if texts.iter().any(Vec::is_empty) {
        return Err(empty());
    }
    if let Some((index, text)) = texts
        .iter()
        .enumerate()
        .find(|(_, text)| text.len() > max_tokens as usize)
    {
        let message = format!(
            "text {index} of 'input' has {} tokens, but the context is {max_tokens} tokens long",
            text.len()
        );
        return Err(ApiError::context_length_exceeded(message));
    }
    let all: usize = texts.iter().map(Vec::len).sum();
    if all > MAX_TOKENS {
        let message = format!(
            "'input' may have up to {MAX_TOKENS} tokens in all, not {all}: send fewer texts at once"
        );
        return Err(ApiError::invalid_parameter("input", message));
    }
    Ok(())
}

fn empty() -> ApiError {
    ApiError::invalid_parameter(
        "input",
        "'input' is empty or has an empty text: leave it out",
    )
}

/// Takes the first numbers of a vector, and scales them to length 1.
fn shorten(vector: &[f32], dimensions: usize) -> Vec<f32> {
    let kept = &vector[..dimensions];
    if kept.len() == vector.len() {
        return kept.to_vec();
    }
    let length = kept.iter().map(|x| x * x).sum::<f32>().sqrt();
    // A vector of zeros has no direction to keep.
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    kept.iter().map(|x| x * scale).collect()
}

fn write(vector: Vec<f32>, format: EncodingFormat) -> EmbeddingVector {
    match format {
        EncodingFormat::Float => EmbeddingVector::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            EmbeddingVector::Base64(BASE64_STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one() {
        let short = shorten(&[0.36, 0.48, 0.8], 2);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(close(short[0], 0.6) && close(short[1], 0.8), "{short:?}");
        assert_eq!(shorten(&[0.6, 0.8], 2), [0.6, 0.8]);
        assert_eq!(shorten(&[0.0, 1.0], 1), [0.0]);
    }

    #[test]
    fn base64_is_that_of_little_endian_floats() {
        let text = EmbeddingVector::Base64("AACAPwAAAMA=".to_owned());
        assert_eq!(write(vec![1.0, -2.0], EncodingFormat::Base64), text);
    }

    #[test]
    fn dimensions_are_those_of_the_model_or_fewer() {
        assert_eq!(dimensions(None, 8).unwrap(), 8);
        assert_eq!(dimensions(Some(8), 8).unwrap(), 8);
        assert!(dimensions(Some(9), 8).is_err());
        assert!(dimensions(Some(0), 8).is_err());
    }

    #[test]
    fn what_is_too_long_or_empty_is_refused() {
        assert!(check_lengths(&[vec![0; 4]], 4).is_ok());
        assert!(check_lengths(&[vec![0; 5]], 4).is_err());
        assert!(check_lengths(&[vec![]], 4).is_err());
        assert!(check_lengths(&vec![vec![0; 1000]; 301], 1000).is_err());
        assert!(count(vec![(); MAX_TEXTS + 1]).is_err());
    }
}
