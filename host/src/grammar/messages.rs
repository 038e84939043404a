//! Interprets llguidance's messages. Its errors and warnings about grammars have no types and differ only in their
//! texts. No other file compares these texts.

use super::GrammarError;

/// Begins the part of an error that is for llguidance's developers. Errors have that part if llguidance panicked.
const DETAILS: &str = "\n<backtrace>";
/// Parts of errors about something that llguidance does not support.
const UNSUPPORTED: [&str; 3] = ["Unimplemented keys", "Unknown format", "not supported"];

/// Makes an error for clients from llguidance's message. Keeps the reason and the place, and adds a hint if the grammar
/// asks for something unsupported.
pub fn invalid(message: &str) -> GrammarError {
    let end = message.find(DETAILS).unwrap_or(message.len());
    let message = message[..end].trim_end();
    if UNSUPPORTED.iter().any(|what| message.contains(what)) {
        let hint = "leave that out, or have it ignored, without \"strict\" or with \"x-guidance\": {\"lenient\": true} in the schema";
        return GrammarError::Invalid(format!("{message}: {hint}"));
    }
    GrammarError::Invalid(message.to_owned())
}

/// The keywords that llguidance left out, according to its warning. Unknown formats do not count: they are annotations,
/// which restrict nothing.
pub fn left_out(warning: &str) -> Vec<String> {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    match warning {
        _ if warning.starts_with("Unknown format") => Vec::new(),
        _ if warning.starts_with("oneOf") => names(&["oneOf"]),
        _ if warning.starts_with("min/maxProperties") => names(&["minProperties", "maxProperties"]),
        _ => match warning.split_once("Unimplemented keys: ") {
            // The keywords are printed as a Rust list of strings, which is also valid JSON.
            Some((_, keys)) => {
                let keys = keys.rfind(']').map_or(keys, |end| &keys[..=end]);
                serde_json::from_str(keys).unwrap_or_else(|_| vec![keys.to_owned()])
            }
            None => vec![warning.to_owned()],
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::grammar::{
        Grammar,
        tests::{compiled, refusal},
    };

    /// Schemas with something that llguidance does not support, and the keywords that are not enforced if the schema is
    /// lenient.
    fn unsupported() -> [(Value, &'static [&'static str]); 3] {
        let ambiguous = json!({"oneOf": [{"type": "integer"}, {"type": "number"}]});
        [
            (
                json!({"type": "array", "uniqueItems": true}),
                &["uniqueItems"],
            ),
            (json!({"type": "string", "format": "nonsense"}), &[]),
            (ambiguous, &["oneOf"]),
        ]
    }

    #[track_caller]
    fn check_left_out(mut schema: Value, expected: &[&str]) {
        schema["x-guidance"] = json!({"lenient": true});
        let compiled = compiled(&Grammar::JsonSchema(schema.clone()));
        assert_eq!(compiled.unenforced(), expected, "{schema}");
    }

    #[test]
    fn errors_about_what_is_unsupported_have_a_hint() {
        for (schema, _) in unsupported() {
            let error = refusal(&Grammar::JsonSchema(schema));
            assert!(error.ends_with("true} in the schema"), "{error}");
        }
        let error = refusal(&Grammar::JsonSchema(json!(false)));
        assert!(!error.contains("lenient"), "{error}");
    }

    #[test]
    fn warnings_name_the_keywords_that_are_left_out() {
        for (schema, expected) in unsupported() {
            check_left_out(schema, expected);
        }
        let counted = json!({"type": "object", "properties": {"a": {}}, "minProperties": 1});
        check_left_out(counted, &["minProperties", "maxProperties"]);
    }

    #[test]
    fn errors_have_no_backtrace() {
        let panics = || -> anyhow::Result<()> { panic!("broken") };
        let error = llguidance::panic_utils::catch_unwind(panics).unwrap_err();
        assert!(error.to_string().len() > 20, "{error}");
        assert_eq!(invalid(&error.to_string()).to_string(), "panic: broken");
    }
}
