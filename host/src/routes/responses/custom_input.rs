//! The text that a custom tool gets. To the model such a tool is a function with one argument, so the text is a string in JSON.

use serde_json::{Value, json};

/// The name of the argument.
pub const ARGUMENT: &str = "input";

/// The arguments of a call with this text.
pub fn arguments(text: &str) -> String {
    json!({ARGUMENT: text}).to_string()
}

/// The schema of the arguments. `regex` matches the whole text.
pub fn schema(regex: Option<&str>) -> Value {
    let mut text = json!({"type": "string"});
    if let Some(regex) = regex {
        text["pattern"] = format!("^(?:{regex})$").into();
    }
    json!({
        "type": "object",
        "properties": {ARGUMENT: text},
        "required": [ARGUMENT],
        "additionalProperties": false,
    })
}

/// Reads the text from arguments that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct InputReader {
    /// The arguments so far.
    arguments: String,
    /// Offset of the text that was not returned yet. None until the text begins.
    at: Option<usize>,
}

impl InputReader {
    /// Takes more of the arguments. Returns the text that they complete.
    pub fn push(&mut self, arguments: &str) -> String {
        self.arguments += arguments;
        self.at = self.at.or_else(|| begin(&self.arguments));
        let Some(at) = self.at else {
            return String::new();
        };
        let rest = &self.arguments[at..];
        let length = whole(rest);
        self.at = Some(at + length);
        // All escapes are complete, so decoding fails only if one of them is invalid.
        let text = &rest[..length];
        serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
    }

    /// Whether the arguments are complete.
    pub fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// Ends the arguments. Returns the rest of the text. Arguments of another form are the text themselves.
    pub fn finish(&mut self) -> String {
        match self.at {
            Some(_) => String::new(),
            None => std::mem::take(&mut self.arguments),
        }
    }
}

/// Offset of the text in the arguments.
fn begin(arguments: &str) -> Option<usize> {
    let rest = arguments.trim_start().strip_prefix('{')?.trim_start();
    let rest = rest
        .strip_prefix('"')?
        .strip_prefix(ARGUMENT)?
        .strip_prefix('"')?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let text = rest.strip_prefix('"')?;
    Some(arguments.len() - text.len())
}

/// The length in bytes of the text up to its end or to an incomplete escape.
fn whole(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let length = match byte {
            b'"' => break,
            b'\\' => escape_length(&text[at..]),
            _ => Some(1),
        };
        match length {
            Some(length) => at += length,
            None => break,
        }
    }
    at
}

/// The length in bytes of an escape. A surrogate pair counts as one escape. None if the escape is incomplete.
fn escape_length(text: &str) -> Option<usize> {
    const CODE: usize = r"\u0000".len();
    match text.as_bytes().get(1)? {
        b'u' => {
            let code = u32::from_str_radix(text.get(2..CODE)?, 16).unwrap_or(0);
            let is_first_half = (0xD800..0xDC00).contains(&code);
            let length = if is_first_half { 2 * CODE } else { CODE };
            text.get(..length).map(str::len)
        }
        _ => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        for step in 1..=arguments.len() {
            let mut reader = InputReader::default();
            let mut text = String::new();
            let mut rest = arguments;
            while !rest.is_empty() {
                let mut cut = step.min(rest.len());
                while !rest.is_char_boundary(cut) {
                    cut += 1;
                }
                text += &reader.push(&rest[..cut]);
                rest = &rest[cut..];
            }
            assert_eq!(text + &reader.finish(), expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_text_is_the_same_however_it_is_cut() {
        for text in ["", "a", "é\n\"\\\"", "a\u{1}b\t", "🦀{\"input\": 1}"] {
            check(&arguments(text), text);
        }
        check(r#" { "input" : "\ud83e\udd80\u00e9\/" } "#, "🦀é/");
    }

    #[test]
    fn what_is_cut_off_is_the_beginning_of_the_text() {
        check(r#"{"input": "ab\"#, "ab");
        check(r#"{"input": "ab\u00"#, "ab");
        check(r#"{"input": "ab\ud83e"#, "ab");
    }

    #[test]
    fn arguments_of_another_form_are_the_text() {
        check(r#"{"text": "a"}"#, r#"{"text": "a"}"#);
    }
}
