use std::{
    iter::{repeat, zip},
    sync::Arc,
    time::SystemTime,
};

use axum::{Extension, Json, extract::State};
use serde_json::Value;
use uuid::Uuid;

use super::{
    body::{Body, RequestBody, read},
    checks,
    relevance::{MAX_PAIRS, Pair, RelevanceRequest, relevance},
};
use crate::{
    app::App,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    openai::{ScoreList, ScoreObject, ScoreRequest, TextOrTexts, unix_seconds},
};

/// Scores pairs of texts: how relevant the second one is to the first one.
///
/// The scores are those of `/v1/rerank`. `text_1` is one text, or has as many texts as `text_2`. Request and answer have vLLM's
/// form.
#[utoipa::path(
    post,
    path = "/v1/score",
    tag = "Generation",
    request_body(
        content = ScoreRequest,
        examples(("Texts" = (
            summary = "A query and two texts",
            value = json!({
                "model": "",
                "text_1": "What is the capital of France?",
                "text_2": ["The sky is blue.", "Paris is the capital of France."],
            }),
        ))),
    ),
    responses(
        (
            status = 200,
            description = "The scores.",
            body = ScoreList,
            example = json!({
                "id": "score-0e3837a4bf4aec860564224a67873b0a",
                "object": "list",
                "created": 1767225600,
                "model": "Qwen3-Reranker-0.6B",
                "data": [
                    {"index": 0, "object": "score", "score": 0.001},
                    {"index": 1, "object": "score", "score": 0.99},
                ],
                "usage": {"prompt_tokens": 160, "total_tokens": 160},
            }),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn score(
    State(app): State<Arc<App>>,
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<ScoreRequest>,
) -> Result<Json<ScoreList>, ApiError> {
    let pairs = pairs(request.text_1, request.text_2)?;
    let question = RelevanceRequest {
        client,
        arrival,
        model: request.model,
        instruction: request.instruction,
        pairs,
    };
    let relevance = relevance(&app, question).await?;
    let scores = relevance.scores.into_iter().enumerate();
    let data = scores.map(|(index, score)| ScoreObject {
        index,
        object: "score",
        score,
    });
    Ok(Json(ScoreList {
        id: format!("score-{}", Uuid::new_v4().simple()),
        object: "list",
        created: unix_seconds(SystemTime::now()),
        model: relevance.model,
        data: data.collect(),
        usage: relevance.usage,
    }))
}

impl RequestBody for ScoreRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        read(fields)
    }
}

fn pairs(first: TextOrTexts, second: TextOrTexts) -> Result<Vec<Pair>, ApiError> {
    let second = match second {
        TextOrTexts::One(text) => vec![text],
        TextOrTexts::Many(texts) => texts,
    };
    checks::count("text_2", second.len(), MAX_PAIRS)?;
    match first {
        TextOrTexts::One(text) => Ok(zip(repeat(Arc::from(text)), shared(second)).collect()),
        TextOrTexts::Many(texts) if texts.len() == second.len() => {
            Ok(zip(shared(texts), shared(second)).collect())
        }
        TextOrTexts::Many(texts) => {
            let (first, second) = (texts.len(), second.len());
            let message = format!(
                "'text_1' has {first} texts and 'text_2' has {second}: send one text as 'text_1', or as many as 'text_2' has"
            );
            Err(ApiError::invalid_parameter("text_1", message))
        }
    }
}

fn shared(texts: Vec<String>) -> impl Iterator<Item = Arc<str>> {
    texts.into_iter().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> TextOrTexts {
        TextOrTexts::Many(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn texts_are_paired() {
        let one = || TextOrTexts::One("q".to_owned());
        let pair = |a: &str, b: &str| (Arc::from(a), Arc::from(b));
        let paired = pairs(one(), texts(&["a", "b"])).unwrap();
        assert_eq!(paired, [pair("q", "a"), pair("q", "b")]);
        let paired = pairs(texts(&["p", "q"]), texts(&["a", "b"])).unwrap();
        assert_eq!(paired, [pair("p", "a"), pair("q", "b")]);
        assert_eq!(pairs(one(), one()).unwrap(), [pair("q", "q")]);
        assert!(pairs(texts(&["p", "q"]), one()).is_err());
        assert!(pairs(one(), texts(&[])).is_err());
    }
}
