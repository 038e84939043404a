use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EmbeddingUsage, EncodingFormat};

/// The request of `POST /v1/rerank`, as in the APIs of Jina and Cohere.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct RerankRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// The question or search text that the documents are judged by.
    pub query: String,
    /// Up to 1000 documents.
    #[schema(min_items = 1)]
    pub documents: Vec<RerankDocument>,
    /// How many documents to return: the most relevant ones. Default: all.
    #[schema(minimum = 1)]
    pub top_n: Option<u32>,
    /// Whether to return the documents too. Default: false.
    pub return_documents: Option<bool>,
    /// What makes a document relevant, in a sentence. Default: `Given a web search query, retrieve relevant passages that answer
    /// the query`. Cross-encoders take no instruction.
    pub instruction: Option<String>,
    /// Accepted, of no effect: scores are numbers.
    pub encoding_format: Option<EncodingFormat>,
}

/// A document.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string or an object such as {\"text\": \"…\"}"
)]
pub enum RerankDocument {
    /// Its text.
    Text(String),
    /// Its text in an object.
    Object(DocumentText),
}

/// The text of a document.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DocumentText {
    /// The text.
    pub text: String,
}

/// The answer of `POST /v1/rerank`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reranking {
    /// Id of the answer.
    pub id: String,
    /// The model that judged the documents.
    pub model: String,
    /// The documents, most relevant first.
    pub results: Vec<RankedDocument>,
    /// Number of tokens that the model read.
    pub usage: EmbeddingUsage,
}

/// A document's relevance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RankedDocument {
    /// Index of the document in the request.
    pub index: usize,
    /// The relevance, from 0 to 1.
    pub relevance_score: f32,
    /// The document, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentText>,
}

/// The request of `POST /v1/score`, as in vLLM.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ScoreRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// A text that is compared with each of `text_2`, or as many texts as `text_2` has.
    pub text_1: TextOrTexts,
    /// The texts that may be relevant, up to 1000.
    pub text_2: TextOrTexts,
    /// What makes a text relevant, in a sentence. Default: that of `/v1/rerank`.
    pub instruction: Option<String>,
    /// Accepted, of no effect: scores are numbers.
    pub encoding_format: Option<EncodingFormat>,
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum TextOrTexts {
    /// One text.
    One(String),
    /// Several texts.
    Many(Vec<String>),
}

/// The answer of `POST /v1/score`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ScoreList {
    /// Id of the answer.
    pub id: String,
    /// Always `list`.
    pub object: &'static str,
    /// When the answer was made, in seconds since 1970.
    pub created: u64,
    /// The model that judged the texts.
    pub model: String,
    /// The scores, in the order of the texts.
    pub data: Vec<ScoreObject>,
    /// Number of tokens that the model read.
    pub usage: EmbeddingUsage,
}

/// The score of a pair of texts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ScoreObject {
    /// Index of the pair.
    pub index: usize,
    /// Always `score`.
    pub object: &'static str,
    /// How relevant the second text is to the first one, from 0 to 1.
    pub score: f32,
}
