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

/// A model that is being served. Keys that only a loaded model has are left out while it is not loaded.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// Name of the model, for a request's `model`.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// When this server loaded the model, in Unix seconds; when it was started, if the model is not loaded.
    pub created: u64,
    /// Always `tenon`.
    pub owned_by: &'static str,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// Whether the model answers. A model that is loaded on demand answers in any state but `failed`.
    pub state: ModelStatus,
    /// Id of the plugin that runs the model, for example `org.tenon.echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Architecture of the model, for example `llama`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Number of parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Current level of the weights, for example `Q4_1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Levels that `POST /re_isq` can change the weights to, the most faithful first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requantize_levels: Option<Vec<String>>,
    /// Most tokens that a prompt and its answer may have together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Sampling parameters of requests that do not state them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<ModelSampling>,
    /// The embeddings that `/v1/embeddings` makes with this model; null if it makes none, or is not loaded.
    #[schema(required)]
    pub embeddings: Option<ModelEmbeddings>,
}

/// The state of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelStatus {
    /// It is being loaded.
    Loading,
    /// Its files are being fetched from a hub. Afterwards it is loaded.
    Downloading,
    /// It answers.
    Ready,
    /// It is not loaded.
    Unloaded,
    /// Its worker ended, and it is started again.
    Restarting,
    /// It could not be loaded, or its worker ended too often.
    Failed,
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
