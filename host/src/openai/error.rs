use serde::Serialize;
use utoipa::ToSchema;

/// The body of every error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ErrorBody,
}

/// An error. All four keys are always present.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// The kind of error, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The parameter at fault, for example `messages[0].role`. Null if it is none.
    #[schema(required)]
    pub param: Option<String>,
    /// The error for programs, for example `context_length_exceeded`.
    #[schema(required)]
    pub code: Option<&'static str>,
}
