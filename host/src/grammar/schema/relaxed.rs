//! Relaxes schemas that a grammar can follow only in part.

use llguidance::{derivre::RegexBuilder, regex_to_lark};
use serde_json::{Map, Value, json};

use super::walk::for_each;

/// Removes the patterns that llguidance would refuse, and marks the schema as lenient. Returns the schema and the
/// keywords that were removed.
///
/// llguidance leaves out most other unsupported keywords of a lenient schema itself;
/// [`CompiledGrammar::unenforced`](crate::grammar::CompiledGrammar::unenforced) lists those.
pub fn relaxed(mut schema: Value) -> (Value, Vec<String>) {
    let mut dropped = Vec::new();
    for_each(&mut schema, &mut |fields| {
        let pattern = fields.get("pattern").and_then(Value::as_str);
        if pattern.is_some_and(is_irregular) {
            fields.shift_remove("pattern");
            dropped.push("pattern".to_owned());
        }
        if drop_irregular_members(fields) {
            dropped.push("patternProperties".to_owned());
        }
    });
    if let Value::Object(fields) = &mut schema {
        let options = fields.entry("x-guidance").or_insert_with(|| json!({}));
        if let Value::Object(options) = options {
            options.entry("lenient").or_insert(json!(true));
        }
    }
    (schema, dropped)
}

/// Removes irregular patterns from `patternProperties`, and allows the values of their members under any name. Returns
/// whether there was such a pattern.
fn drop_irregular_members(fields: &mut Map<String, Value>) -> bool {
    let Some(Value::Object(patterns)) = fields.get_mut("patternProperties") else {
        return false;
    };
    let (irregular, regular) = std::mem::take(patterns)
        .into_iter()
        .partition::<Map<_, _>, _>(|(pattern, _)| is_irregular(pattern));
    *patterns = regular;
    let is_dropped = !irregular.is_empty();
    for schema in irregular.into_iter().map(|(_, schema)| schema) {
        match fields.get_mut("additionalProperties") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => {
                fields.insert("additionalProperties".to_owned(), schema);
            }
            Some(other) => *other = json!({"anyOf": [other.take(), schema]}),
        }
    }
    is_dropped
}

/// Whether llguidance cannot make an automaton of a regular expression: the expression has a lookaround, a
/// back-reference, or syntax that only JavaScript knows.
fn is_irregular(pattern: &str) -> bool {
    /// Nobody writes longer patterns. They are left to the compilation, whose time is limited.
    const MAX_BYTES: usize = 4096;
    let parse = || RegexBuilder::new().mk_regex_for_serach(&regex_to_lark(pattern, "dw"));
    pattern.len() <= MAX_BYTES && parse().is_err()
}
