//! JSON Schemas, made ready for llguidance.

use serde_json::{Map, Value, json};

use crate::config::JsonWhitespace;

/// Keywords whose value is a schema or a list of schemas.
const SCHEMAS: [&str; 7] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "items",
    "oneOf",
    "prefixItems",
];

/// Keywords whose value has schemas by name.
const SCHEMAS_BY_NAME: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];

/// Every month but February, February to the 28th, and the 29th of leap years.
macro_rules! date {
    () => {
        "^(?:[0-9]{4}-(?:(?:0[13-9]|1[0-2])-[0-9]{2}|02-(?:[01][0-9]|2[0-8]))\
         |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
    };
}

/// What a format has to match besides, because llguidance allows a 29th of February in every year and leap seconds at any
/// time of the day.
const EXACT: [(&str, &str); 3] = [
    ("date", concat!(date!(), "$")),
    ("time", "^[0-9]{2}:[0-9]{2}:[0-5]"),
    ("date-time", concat!(date!(), "[Tt][0-9]{2}:[0-9]{2}:[0-5]")),
];

/// The schema with the configured whitespace, unless it says itself what it wants, and with formats that are exact.
pub fn prepared(mut schema: Value, whitespace: JsonWhitespace) -> Value {
    if schema == json!(true) {
        schema = json!({});
    }
    make_exact(&mut schema);
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

/// Goes through a schema, or a list of them. Depth is bounded, because JSON's parser bounds it.
fn make_exact(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(make_exact),
        Value::Object(fields) => {
            for (keyword, value) in fields.iter_mut() {
                if SCHEMAS.contains(&keyword.as_str()) {
                    make_exact(value);
                } else if SCHEMAS_BY_NAME.contains(&keyword.as_str())
                    && let Value::Object(schemas) = value
                {
                    schemas.values_mut().for_each(make_exact);
                }
            }
            require_exact_format(fields);
        }
        _ => {}
    }
}

fn require_exact_format(fields: &mut Map<String, Value>) {
    let format = fields.get("format").and_then(Value::as_str);
    let exact = EXACT.iter().find(|(name, _)| Some(*name) == format);
    if let Some((_, pattern)) = exact {
        let all = fields.entry("allOf").or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.push(json!({"pattern": pattern}));
        }
    }
}
