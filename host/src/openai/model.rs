use serde::Serialize;
use utoipa::ToSchema;

/// Models that are being served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The models; the default model comes first.
    pub data: Vec<ModelObject>,
}

/// A model that is being served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// Name of the model, for a request's `model`.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// When this server began to serve the model, in Unix seconds.
    pub created: u64,
    /// Always `tenon`.
    pub owned_by: &'static str,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// Id of the plugin that runs the model, for example `org.tenon.echo`.
    pub backend: String,
    /// Architecture of the model, for example `llama`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Current level of the weights, for example `Q4_1`.
    pub quantization: String,
    /// Levels that `POST /re_isq` can change the weights to, the most faithful first.
    pub requantize_levels: Vec<String>,
    /// Most tokens of a prompt and its answer together.
    pub context_length: u32,
    /// Sampling parameters of requests that do not state them.
    pub sampling: ModelSampling,
    /// The embeddings that `/v1/embeddings` makes with this model; null if it makes none.
    #[schema(required)]
    pub embeddings: Option<ModelEmbeddings>,
}

/// The properties of a model's embeddings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelEmbeddings {
    /// Numbers in a vector.
    pub dimensions: u32,
    /// Most tokens of a text.
    pub max_tokens: u32,
    /// How the vectors of all tokens become one vector: `mean`, `last` or `cls`.
    pub pooling: String,
}

/// Sampling parameters of requests that do not state them: from the configuration, else from the model's makers, else
/// OpenAI's.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ModelSampling {
    /// OpenAI's default is 1.
    pub temperature: f32,
    /// OpenAI's default is 1, which is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repetition_penalty: f32,
}
