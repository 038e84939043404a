use serde::Serialize;

/// How every error looks.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong. All four keys are always there.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorBody {
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The kind of error, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The parameter that is at fault, for example `messages[0].role`.
    pub param: Option<String>,
    /// For programs, for example `context_length_exceeded`.
    pub code: Option<&'static str>,
}
