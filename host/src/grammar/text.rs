//! Grammars out of literal text and JSON, as calls of tools need them.

use std::fmt::Write;

use serde_json::Value;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Exactly this text.
    Text(String),
    /// Exactly this token: for control tokens, which are no text.
    Token(u32),
    /// JSON that this schema validates.
    Json(Value),
}

/// The grammar of one of `alternatives`; behind a trigger, of any text with one of them after each trigger.
///
/// The text before a trigger is one lexeme that ends where the trigger first does; the text after the last one is another,
/// which has none in it. So there is one way only to read an answer.
pub fn lark(
    trigger: Option<&str>,
    alternatives: &[Vec<Piece>],
    schema: impl Fn(Value) -> Value,
) -> String {
    let mut lark = match trigger {
        None => String::from("start: call\n"),
        Some(trigger) => {
            let literal = quoted(trigger);
            let regex = regex_escaped(trigger);
            format!(
                "start: before_call* TEXT\nbefore_call: before call\nbefore[suffix={literal}]: /(?s:.*)/\n\
                 TEXT: /(?s:.*)/ & ~/(?s:.*){regex}(?s:.*)/\n"
            )
        }
    };
    let names: Vec<_> = (0..alternatives.len())
        .map(|at| format!("call_{at}"))
        .collect();
    let mut rules = format!("call: {}\n", names.join(" | "));
    for (name, pieces) in names.iter().zip(alternatives) {
        rules += &format!("{name}:");
        for piece in pieces {
            // Writing to a string cannot fail.
            let _ = match piece {
                Piece::Text(text) => write!(rules, " {}", quoted(text)),
                Piece::Token(token) => write!(rules, " <[{token}]>"),
                Piece::Json(value) => write!(rules, " %json {}", schema(value.clone())),
            };
        }
        rules.push('\n');
    }
    lark += &rules;
    lark
}

/// Lark's strings are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Every character as its code, because those that Lark's `/…/` and regular expressions take as their own are many.
fn regex_escaped(text: &str) -> String {
    let escaped = text
        .chars()
        .map(|character| format!("\\u{{{:x}}}", u32::from(character)));
    escaped.collect()
}
