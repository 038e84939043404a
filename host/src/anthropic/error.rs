use serde::Serialize;
use utoipa::ToSchema;

/// The body of every error of Anthropic's routes.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = anthropic::ErrorEnvelope)]
pub struct ErrorEnvelope {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The error.
    pub error: ErrorBody,
    /// Id of the request. Null in the middle of a stream.
    #[schema(required)]
    pub request_id: Option<String>,
}

/// An error.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = anthropic::ErrorBody)]
pub struct ErrorBody {
    /// The kind of error, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// For people: what is wrong, and what to do.
    pub message: String,
}
