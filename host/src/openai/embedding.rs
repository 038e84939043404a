use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Prompt;

/// The request of `POST /v1/embeddings`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct EmbeddingRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// Up to 2048 texts to embed, of up to 300,000 tokens together.
    pub input: Prompt,
    /// How the vectors are written. Default: `float`.
    pub encoding_format: Option<EncodingFormat>,
    /// Keep only the first numbers of each vector, this many, and scale the result to length 1. Only useful with models
    /// that are trained for it. Default: all.
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

/// The answer of `POST /v1/embeddings`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: &'static str,
    /// The vectors, in the order of the input.
    pub data: Vec<EmbeddingObject>,
    /// The model that made the vectors.
    pub model: String,
    /// How many tokens were embedded.
    pub usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbeddingObject {
    /// Always `embedding`.
    pub object: &'static str,
    /// Index of the text in the input.
    pub index: usize,
    /// The vector. Its length is 1.
    pub embedding: EmbeddingVector,
}

/// A vector, written as the request's `encoding_format` says.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// The numbers.
    Float(Vec<f32>),
    /// The bytes in base64.
    Base64(String),
}

/// How many tokens the request had.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EmbeddingUsage {
    /// Tokens of all texts.
    pub prompt_tokens: usize,
    /// The same as `prompt_tokens`.
    pub total_tokens: usize,
}
