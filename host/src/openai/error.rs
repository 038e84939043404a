use serde::Serialize;
use utoipa::ToSchema;

/// How every error looks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong. All four keys are always there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The kind of error, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The parameter that is at fault, for example `messages[0].role`.
    #[schema(required)]
    pub param: Option<String>,
    /// For programs, for example `context_length_exceeded`.
    #[schema(required)]
    pub code: Option<&'static str>,
}
