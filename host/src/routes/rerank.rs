use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    body::{Body, RequestBody, read},
    checks,
    relevance::{MAX_PAIRS, RelevanceRequest, relevance},
};
use crate::{
    app::App,
    error::{AnyError, ApiError, GenerationError, ModelError},
    layers::{arrival::Arrival, client::Client},
    openai::{DocumentText, RankedDocument, RerankDocument, RerankRequest, Reranking},
};

/// Sorts documents by their relevance to a query.
///
/// A cross-encoder judges each document with the query. A model that can chat is asked whether a document meets the query, in the
/// words that Qwen3-Reranker was trained with. The score is then the probability of the answer `yes` rather than `no`.
#[utoipa::path(
    post,
    path = "/v1/rerank",
    tag = "Generation",
    request_body(
        content = RerankRequest,
        examples(("Documents" = (
            summary = "The better of two documents",
            value = json!({
                "model": "",
                "query": "What is the capital of France?",
                "documents": ["The sky is blue.", "Paris is the capital of France."],
                "top_n": 1,
                "return_documents": true,
            }),
        ))),
    ),
    responses(
        (
            status = 200,
            description = "The documents, most relevant first.",
            body = Reranking,
            example = json!(example()),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn rerank(
    State(app): State<Arc<App>>,
    arrival: Arrival,
    Extension(client): Extension<Client>,
    Body(request): Body<RerankRequest>,
) -> Result<Json<Reranking>, ApiError> {
    checks::count("documents", request.documents.len(), MAX_PAIRS)?;
    let top_n = checks::within("top_n", request.top_n, 1..=u32::MAX)?;
    let texts: Vec<Arc<str>> = request.documents.into_iter().map(text).collect();
    let query: Arc<str> = request.query.into();
    let pair = |text: &Arc<str>| (query.clone(), text.clone());
    let question = RelevanceRequest {
        client,
        arrival,
        model: request.model,
        instruction: request.instruction,
        pairs: texts.iter().map(pair).collect(),
    };
    let relevance = relevance(&app, question).await?;
    let with_documents = request.return_documents.unwrap_or(false);
    let results = relevance.scores.into_iter().zip(texts).enumerate();
    let results = results.map(|(index, (relevance_score, text))| RankedDocument {
        index,
        relevance_score,
        document: with_documents.then(|| DocumentText {
            text: text.to_string(),
        }),
    });
    Ok(Json(Reranking {
        id: format!("rerank-{}", Uuid::new_v4().simple()),
        model: relevance.model,
        results: best(results.collect(), top_n),
        usage: relevance.usage,
    }))
}

/// The same as `/v1/rerank`, at the path that other servers use.
#[utoipa::path(
    post,
    path = "/rerank",
    tag = "Generation",
    request_body = RerankRequest,
    responses(
        (
            status = 200,
            description = "The documents, most relevant first.",
            body = Reranking,
            example = json!(example()),
        ),
        AnyError,
        ModelError,
        GenerationError,
    ),
)]
pub async fn rerank_alias(
    app: State<Arc<App>>,
    arrival: Arrival,
    client: Extension<Client>,
    body: Body<RerankRequest>,
) -> Result<Json<Reranking>, ApiError> {
    rerank(app, arrival, client, body).await
}

/// An example of an answer, for the API's documentation.
fn example() -> Value {
    json!({
        "id": "rerank-0e3837a4bf4aec860564224a67873b0a",
        "model": "Qwen3-Reranker-0.6B",
        "results": [{
            "index": 1,
            "relevance_score": 0.99,
            "document": {"text": "Paris is the capital of France."},
        }],
        "usage": {"prompt_tokens": 160, "total_tokens": 160},
    })
}

impl RequestBody for RerankRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        read(fields)
    }
}

fn text(document: RerankDocument) -> Arc<str> {
    match document {
        RerankDocument::Text(text) | RerankDocument::Object(DocumentText { text }) => text.into(),
    }
}

/// The `top_n` most relevant documents. Documents that are equally relevant keep their order.
fn best(mut documents: Vec<RankedDocument>, top_n: Option<u32>) -> Vec<RankedDocument> {
    documents.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    documents.truncate(top_n.map_or(usize::MAX, |n| n as usize));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_relevant_documents_come_first() {
        let document = |(index, relevance_score)| RankedDocument {
            index,
            relevance_score,
            document: None,
        };
        let best = |top_n| -> Vec<usize> {
            let documents = [0.1, 0.9, 0.1, 0.95].into_iter().enumerate().map(document);
            let best = best(documents.collect(), top_n);
            best.iter().map(|document| document.index).collect()
        };
        assert_eq!(best(None), [3, 1, 0, 2]);
        assert_eq!(best(Some(2)), [3, 1]);
        assert_eq!(best(Some(9)), [3, 1, 0, 2]);
    }
}
