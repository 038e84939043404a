use serde_json::Value;

use crate::error::ApiError;

/// A known parameter that this server does not implement, with the values that request nothing. (null never does.)
///
/// Whoever implements a parameter deletes its line. Parameters that may be ignored by their definition are not listed:
/// `safety_identifier`, `prompt_cache_key`, `prediction` …
type Unsupported = (&'static str, &'static [&'static str]);

const CHAT: &[Unsupported] = &[
    ("verbosity", &[r#""medium""#]),
    ("modalities", &[r#"["text"]"#]),
    ("audio", &[]),
    ("web_search_options", &[]),
];

/// Parameters that have been replaced: the values that request nothing, and the new parameter.
const REPLACED: &[(&str, &[&str], &str)] = &[
    ("functions", &["[]"], "tools"),
    ("function_call", &[r#""none""#, r#""auto""#], "tool_choice"),
];

/// Refuses parameters of chats that this server does not implement.
pub fn check_chat(fields: &Value) -> Result<(), ApiError> {
    for (name, harmless, instead) in REPLACED {
        if asks_for_something(&fields[name], harmless) {
            let message = format!("'{name}' is not supported by this server: send '{instead}'");
            return Err(ApiError::unsupported(*name, message));
        }
    }
    for (name, harmless) in CHAT {
        if asks_for_something(&fields[name], harmless) {
            let message = format!("'{name}' is not supported by this server: leave it out");
            return Err(ApiError::unsupported(*name, message));
        }
    }
    Ok(())
}

fn asks_for_something(value: &Value, harmless: &[&str]) -> bool {
    !value.is_null() && !harmless.iter().any(|text| is_equal(value, text))
}

/// Whether two values are equal. Unlike in `serde_json`, 1 and 1.0 are.
fn is_equal(value: &Value, text: &str) -> bool {
    match value.as_f64() {
        Some(number) => text.parse() == Ok(number),
        None => serde_json::from_str(text).is_ok_and(|other: Value| *value == other),
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
            json!({"user": "me", "no_such_parameter": [1]}),
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

    #[test]
    fn every_harmless_value_is_json_as_it_is_written() {
        for (name, harmless) in CHAT {
            for text in *harmless {
                let value: Value = serde_json::from_str(text).unwrap();
                assert!(is_equal(&value, text), "{name}: {text}");
            }
        }
    }
}
