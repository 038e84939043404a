//! Literal text in grammars and in regular expressions.

use serde_json::Value;

/// Writes a string in Lark's notation: a JSON string in which DEL is escaped too.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\x7f', "\\u007f")
}

/// A regular expression that matches this text only. It writes every character as its code, because many characters
/// have a meaning in Lark's `/…/` or in regular expressions.
pub fn regex_escaped(text: &str) -> String {
    let escaped = text
        .chars()
        .map(|character| format!("\\u{{{:x}}}", u32::from(character)));
    escaped.collect()
}
