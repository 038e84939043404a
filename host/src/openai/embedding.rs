use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Prompt;

/// What `POST /v1/embeddings` takes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct EmbeddingRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// What to embed: up to 2048 texts, of up to 300,000 tokens together.
    pub input: Prompt,
    /// How to write the vectors. Default: `float`.
    pub encoding_format: Option<EncodingFormat>,
    /// Keeps only so many numbers of each vector, and scales what is left to length 1. It makes sense for models that were
    /// trained for it. Default: all.
    #[schema(minimum = 1)]
    pub dimensions: Option<u32>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// As a list of numbers.
    #[default]
    Float,
    /// As their bytes (32-bit floats, little-endian) in base64.
    Base64,
}

/// Vectors of texts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: &'static str,
    /// In the order of the input.
    pub data: Vec<EmbeddingObject>,
    /// The model that made them.
    pub model: String,
    /// How many tokens were embedded.
    pub usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbeddingObject {
    /// Always `embedding`.
    pub object: &'static str,
    /// Which text it is of.
    pub index: usize,
    /// The vector. Its length is 1.
    pub embedding: EmbeddingVector,
}

/// A vector, as the request's `encoding_format` says.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// Its numbers.
    Float(Vec<f32>),
    /// Its bytes.
    Base64(String),
}

/// How many tokens a request took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EmbeddingUsage {
    /// Tokens of all texts.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}
