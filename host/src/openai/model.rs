use serde::Serialize;
use utoipa::ToSchema;

/// Models that are being served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The default model comes first.
    pub data: Vec<ModelObject>,
}

/// A model that is being served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// What to write into a request's `model`.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// When this server began to serve it, in Unix seconds.
    pub created: u64,
    /// Always `tenon`.
    pub owned_by: &'static str,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// The plugin that runs it, for example `org.tenon.echo`.
    pub backend: String,
    /// For example `llama`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Current level of the weights, for example `Q4_1`.
    pub quantization: String,
    /// What `POST /re_isq` can change that to, from the most to the least faithful.
    pub requantize_levels: Vec<String>,
    /// Most tokens of a prompt and its answer together.
    pub context_length: u32,
    /// Sampling parameters of requests that do not say.
    pub sampling: ModelSampling,
    /// What `/v1/embeddings` makes with it; null if it makes none.
    #[schema(required)]
    pub embeddings: Option<ModelEmbeddings>,
}

/// What a model's embeddings are like.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelEmbeddings {
    /// Numbers in a vector.
    pub dimensions: u32,
    /// Tokens of the longest text.
    pub max_tokens: u32,
    /// How one vector is made of those of all tokens: `mean`, `last` or `cls`.
    pub pooling: String,
}

/// What requests get that do not say: from the configuration, else from the model's makers, else OpenAI's.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ModelSampling {
    /// OpenAI's is 1.
    pub temperature: f32,
    /// OpenAI's is 1: off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repetition_penalty: f32,
}
