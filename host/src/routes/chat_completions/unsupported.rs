use serde_json::Value;

use super::super::checks::{self, Unsupported};
use crate::error::ApiError;

/// The known parameters of chats that this server does not implement.
///
/// Whoever implements a parameter deletes its line. Parameters that may be ignored by their definition are not listed:
/// `safety_identifier`, `prompt_cache_key`, `prediction` …
const UNSUPPORTED: &[Unsupported] = &[
    ("functions", &["[]"], "send 'tools'"),
    (
        "function_call",
        &[r#""none""#, r#""auto""#],
        "send 'tool_choice'",
    ),
    ("verbosity", &[r#""medium""#], "leave it out"),
    ("modalities", &[r#"["text"]"#], "leave it out"),
    ("audio", &[], "leave it out"),
    ("web_search_options", &[], "leave it out"),
];

/// Refuses parameters of chats that this server does not implement.
pub fn check_chat(fields: &Value) -> Result<(), ApiError> {
    checks::supported(fields, UNSUPPORTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_ask_for_nothing_pass() {
        for fields in [
            json!({}),
            json!({"user": "me", "no_such_parameter": [1], "audio": null}),
            json!({"functions": [], "function_call": "auto", "modalities": ["text"]}),
        ] {
            assert!(check_chat(&fields).is_ok(), "{fields}");
        }
    }

    #[test]
    fn all_others_are_refused_by_name() {
        for fields in [json!({"functions": [{}]}), json!({"verbosity": "high"})] {
            assert!(check_chat(&fields).is_err(), "{fields}");
        }
    }
}
