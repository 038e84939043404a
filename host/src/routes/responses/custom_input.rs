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
        let (text, length) = decoded(rest);
        self.at = Some(at + length);
        text
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

/// Decodes a text up to its end or to an incomplete escape. Also returns the number of decoded bytes. An invalid escape stays as
/// it is.
fn decoded(text: &str) -> (String, usize) {
    let (mut decoded, mut at) = (String::new(), 0);
    while let Some(character) = text[at..].chars().next() {
        match character {
            '"' => break,
            '\\' => {
                let Some(escape) = escape(&text[at..]) else {
                    break;
                };
                let meant = serde_json::from_str(&format!("\"{escape}\""));
                decoded += &meant.unwrap_or_else(|_| escape.to_owned());
                at += escape.len();
            }
            plain => {
                decoded.push(plain);
                at += plain.len_utf8();
            }
        }
    }
    (decoded, at)
}

/// The escape that a text begins with. A surrogate pair counts as one escape. None if the escape may be incomplete.
fn escape(text: &str) -> Option<&str> {
    const CODE: usize = r"\u0000".len();
    let length = match code(text)? {
        Some(0xD800..0xDC00) => match code(&text[CODE..])? {
            Some(0xDC00..0xE000) => 2 * CODE,
            _ => CODE,
        },
        Some(_) => CODE,
        None => 1 + text[1..].chars().next()?.len_utf8(),
    };
    Some(&text[..length])
}

/// The code in an escape such as `\u00e9` that a text begins with. `Some(None)`: it begins with something else. None: it may be the
/// beginning of such an escape.
fn code(text: &str) -> Option<Option<u32>> {
    let length = text
        .bytes()
        .zip(*br"\u")
        .take_while(|(a, b)| a == b)
        .count();
    let digits = text.bytes().skip(length).take(4);
    let digits = digits.take_while(u8::is_ascii_hexdigit).count();
    match (length, digits) {
        (2, 4) => Some(u32::from_str_radix(&text[2..6], 16).ok()),
        (2, _) if text.len() == 2 + digits => None,
        (0 | 1, _) if text.len() == length => None,
        _ => Some(None),
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
        // Lone surrogates, and texts that are no escapes.
        check(r#"{"input": "a\ud83d bé\n"}"#, "a\\ud83d bé\n");
        check(r#"{"input": "\ud83dabcdeé\n"}"#, "\\ud83dabcdeé\n");
        check(
            r#"{"input": "\ud83d\n\ud83d\ud83e\udd80"}"#,
            "\\ud83d\n\\ud83d🦀",
        );
        check(r#"{"input": "\u12é\é\ud83d"}"#, "\\u12é\\é\\ud83d");
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
