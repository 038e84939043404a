use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much a model reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    /// The model does not reason.
    None,
    /// The model reasons. The chat template gets this word, but few templates distinguish the levels.
    Minimal,
    /// See `minimal`.
    Low,
    /// See `minimal`.
    Medium,
    /// See `minimal`.
    High,
    /// See `minimal`.
    Xhigh,
}

/// Whether the model may, must or must not call tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// The model is not told about the tools.
    None,
    /// The model decides whether to call tools.
    Auto,
    /// The model must call at least one tool.
    Required,
}

/// Stop strings.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    /// One stop string.
    One(String),
    /// Up to four stop strings.
    Many(Vec<String>),
}

impl Stop {
    /// The stop strings as a list.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}
