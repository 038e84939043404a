//! Prepares JSON Schemas for llguidance.

mod disjoint;
mod references;
mod relaxed;
mod walk;

use serde_json::{Map, Value, json};

use disjoint::Proofs;
use references::tidy_references;
pub use relaxed::relaxed;
use walk::for_each;

use crate::config::JsonWhitespace;

/// A pattern for dates: any day of a month other than February, February 1 to 28, and February 29 in leap years.
macro_rules! date {
    () => {
        "^(?:[0-9]{4}-(?:(?:0[13-9]|1[0-2])-[0-9]{2}|02-(?:[01][0-9]|2[0-8]))\
         |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
    };
}

/// Patterns that the values of a format must match as well. llguidance alone allows February 29 in every year, leap seconds at
/// any time of the day, and names of any length. The user of an address has at most 64 characters (RFC 5321, section
/// 4.5.3.1.1). A host name has at most 253, which are 255 octets on the wire (RFC 1035, section 2.3.4).
const EXACT: [(&str, &str); 5] = [
    ("date", concat!(date!(), "$")),
    ("time", "^[0-9]{2}:[0-9]{2}:[0-5]"),
    ("date-time", concat!(date!(), "[Tt][0-9]{2}:[0-9]{2}:[0-5]")),
    ("email", "^[^@]{1,64}@"),
    ("hostname", "^.{1,253}$"),
];

/// Prepares a schema for llguidance: tidies references, turns `oneOf` into `anyOf` where both mean the same, makes
/// formats exact, and sets the configured whitespace unless the schema sets its own.
pub fn prepared(mut schema: Value, whitespace: JsonWhitespace) -> Value {
    if schema == json!(true) {
        schema = json!({});
    }
    tidy_references(&mut schema);
    choose_any(&mut schema);
    for_each(&mut schema, &mut require_exact_format);
    if let (JsonWhitespace::Compact, Value::Object(fields)) = (whitespace, &mut schema) {
        make_compact(fields);
    }
    schema
}

fn make_compact(fields: &mut Map<String, Value>) {
    let options = fields.entry("x-guidance").or_insert_with(|| json!({}));
    if let Value::Object(options) = options
        && !options.contains_key("whitespace_pattern")
    {
        let flexible = options.entry("whitespace_flexible");
        flexible.or_insert(Value::Bool(false));
    }
}

/// Turns `oneOf` into `anyOf` where the branches exclude each other. Schemas stay as they are if a reference leads into
/// a `oneOf`.
fn choose_any(schema: &mut Value) {
    let (mut has_choices, mut names_branches) = (false, false);
    for_each(schema, &mut |fields| {
        has_choices |= fields.contains_key("oneOf");
        let reference = fields.get("$ref").and_then(Value::as_str);
        names_branches |= reference.is_some_and(|path| path.contains("/oneOf/"));
    });
    if !has_choices || names_branches {
        return;
    }
    let root = schema.clone();
    let proofs = Proofs::new(&root);
    for_each(schema, &mut |fields| {
        let branches = fields.get("oneOf").and_then(Value::as_array);
        if !branches.is_some_and(|branches| proofs.exclude_each_other(branches)) {
            return;
        }
        if fields.contains_key("anyOf") {
            let branches = fields.shift_remove("oneOf");
            return all_of(fields, json!({"anyOf": branches}));
        }
        // The keywords keep their order, because values are written in the order of the keywords.
        let keywords = std::mem::take(fields).into_iter();
        let renamed = |keyword: String| {
            if keyword == "oneOf" {
                "anyOf".to_owned()
            } else {
                keyword
            }
        };
        *fields = keywords
            .map(|(keyword, value)| (renamed(keyword), value))
            .collect();
    });
}

/// Adds a schema that values must obey as well.
fn all_of(fields: &mut Map<String, Value>, schema: Value) {
    let all = fields.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.push(schema);
    }
}

fn require_exact_format(fields: &mut Map<String, Value>) {
    let format = fields.get("format").and_then(Value::as_str);
    let exact = EXACT.iter().find(|(name, _)| Some(*name) == format);
    if let Some((_, pattern)) = exact {
        all_of(fields, json!({"pattern": pattern}));
    }
}
