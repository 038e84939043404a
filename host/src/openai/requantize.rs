use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The request of `POST /re_isq`: a change of a model's level.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RequantizeRequest {
    /// The level, in any spelling: `Q4K`, `Q8_0`, `q4_k_m`, `BF16`. `GET /v1/models` lists a model's `requantize_levels`.
    pub ggml_type: String,
    /// Name or alias of the model. Empty or left out: the default model.
    pub model: Option<String>,
}

/// Query parameters of `POST /re_isq`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RequantizeQuery {
    /// Whether to send the progress as server-sent events before the answer.
    #[serde(default)]
    pub stream: bool,
}

/// The result of a change of level.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequantizeReport {
    /// Always `requantize.report`.
    pub object: &'static str,
    /// Name of the model.
    pub model: String,
    /// Level before.
    pub from: String,
    /// Level after.
    pub to: String,
    /// Bytes of weights before.
    pub weight_bytes_before: u64,
    /// Bytes of weights after.
    pub weight_bytes_after: u64,
    /// Seconds that the change took.
    pub seconds: f64,
    /// Notes on the new weights, a sentence each.
    pub warnings: Vec<String>,
}

/// The progress of a change of level.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct RequantizeProgress {
    /// Always `requantize.progress`.
    pub object: &'static str,
    /// The current step.
    pub message: String,
    /// The finished part of the current step, from 0 to 1; null if unknown.
    #[schema(required)]
    pub fraction: Option<f32>,
}
