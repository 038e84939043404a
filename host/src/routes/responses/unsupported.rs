//! Parameters of the API that this server does not implement.

use serde_json::Value;

use super::super::checks::{self, Unsupported};
use crate::error::ApiError;

/// The known parameters of responses that this server does not implement, and those that have another name here than in
/// chats.
///
/// Whoever implements a parameter deletes its line. Parameters that may be ignored by their definition are not listed:
/// `prompt_cache_retention`, `client_metadata`, `text.verbosity`, `stream_options.include_obfuscation` …
const UNSUPPORTED: &[Unsupported] = &[
    (
        "background",
        &["false"],
        "leave it out, and wait for the response or stream it",
    ),
    ("conversation", &[], "send the earlier items in 'input'"),
    ("prompt", &[], "send 'instructions' and 'input'"),
    ("context_management", &["[]"], "leave it out"),
    ("moderation", &[], "leave it out"),
    ("messages", &[], "send 'input'"),
    ("max_tokens", &[], "send 'max_output_tokens'"),
    ("max_completion_tokens", &[], "send 'max_output_tokens'"),
    ("response_format", &[], "send 'text.format'"),
    ("grammar", &[], "send 'text.format'"),
    ("reasoning_effort", &[], "send 'reasoning.effort'"),
    ("verbosity", &[r#""medium""#], "leave it out"),
    (
        "logprobs",
        &["false"],
        "send 'include' with \"message.output_text.logprobs\"",
    ),
    ("n", &["1"], "send several requests"),
];

/// Values of `include`. Most belong to tools that the server itself runs, and there are none.
const INCLUDABLE: &[&str] = &[
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];

/// Refuses parameters of responses that this server does not implement.
pub fn check(fields: &Value) -> Result<(), ApiError> {
    checks::supported(fields, UNSUPPORTED)
}

/// Refuses unknown values of `include`.
pub fn check_include(include: &[String]) -> Result<(), ApiError> {
    let unknown = include
        .iter()
        .find(|name| !INCLUDABLE.contains(&name.as_str()));
    match unknown {
        Some(name) => {
            let known = INCLUDABLE.join("', '");
            let message = format!("'include' has '{name}', but knows only '{known}'");
            Err(ApiError::invalid_parameter("include", message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_ask_for_nothing_pass() {
        for fields in [
            json!({}),
            json!({"background": false, "conversation": null, "client_metadata": {}}),
            json!({"text": {"verbosity": "low"}, "stream_options": {"include_obfuscation": true}}),
        ] {
            assert!(check(&fields).is_ok(), "{fields}");
        }
        assert!(
            check_include(
                &INCLUDABLE
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>()
            )
            .is_ok()
        );
    }

    #[test]
    fn all_others_are_refused_by_name() {
        for (fields, param) in [
            (json!({"background": true}), "background"),
            (json!({"conversation": "conv_1"}), "conversation"),
            (json!({"max_tokens": 3}), "max_tokens"),
        ] {
            let error = check(&fields).unwrap_err().into_envelope().error;
            assert_eq!(error.param.as_deref(), Some(param));
            assert!(error.message.contains(param), "{}", error.message);
        }
        assert!(check_include(&["everything".to_owned()]).is_err());
    }
}
