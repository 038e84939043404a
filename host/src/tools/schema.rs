//! Reads the schema of a function's arguments as its author means it.

use serde_json::{Map, Value, json};

/// Keywords whose value is a schema or a list of schemas.
const SCHEMAS: [&str; 6] = [
    "additionalProperties",
    "anyOf",
    "items",
    "oneOf",
    "prefixItems",
    "allOf",
];

/// Keywords whose value is an object of schemas by name, each of which describes a whole value. The schemas of
/// `dependentSchemas` do not: they add to the schema that they stand in.
const WHOLE_SCHEMAS_BY_NAME: [&str; 4] =
    ["$defs", "definitions", "patternProperties", "properties"];

/// Keywords besides `properties` that may say which members an object has.
const ELSEWHERE: [&str; 12] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "dependentSchemas",
    "if",
    "minProperties",
    "not",
    "oneOf",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
];

/// Forbids members that the schema does not name, as other servers do, so that `f(**arguments)` works. The same goes
/// for inner objects that name their members.
pub fn closed(mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        let is_parts = has_parts(fields);
        fields.entry("properties").or_insert_with(|| json!({}));
        close_object(fields, is_parts);
        if fields.get("additionalProperties").is_none() && fields["properties"] == json!({}) {
            fields.shift_remove("properties");
        }
    }
    schema
}

/// Whether an object is combined from several schemas. None of these may forbid what the others name.
fn has_parts(fields: &Map<String, Value>) -> bool {
    let is_part = |(keyword, value): (&String, &Value)| {
        let is_all = keyword == "allOf" && value.as_array().is_some_and(|all| all.len() > 1);
        is_all || objects_within(value).into_iter().any(has_parts)
    };
    fields.iter().any(is_part)
}

fn objects_within(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(fields) => vec![fields],
        Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
        _ => Vec::new(),
    }
}

/// Closes inner objects. The depth is bounded, because JSON's parser bounds it.
fn close(schema: &mut Value, is_parts: bool) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|one| close(one, is_parts)),
        Value::Object(fields) => close_object(fields, is_parts),
        _ => {}
    }
}

fn close_object(fields: &mut Map<String, Value>, is_parts: bool) {
    for (keyword, value) in fields.iter_mut() {
        if SCHEMAS.contains(&keyword.as_str()) {
            close(value, is_parts);
        } else if WHOLE_SCHEMAS_BY_NAME.contains(&keyword.as_str())
            && let Value::Object(schemas) = value
        {
            schemas.values_mut().for_each(|one| close(one, is_parts));
        }
    }
    if !is_parts && names_its_members(fields) {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
}

fn names_its_members(fields: &Map<String, Value>) -> bool {
    let Some(properties) = fields.get("properties").and_then(Value::as_object) else {
        return false;
    };
    let required = fields.get("required").and_then(Value::as_array);
    let is_named = |name: &Value| {
        name.as_str()
            .is_some_and(|name| properties.contains_key(name))
    };
    required.is_none_or(|required| required.iter().all(is_named))
        && !ELSEWHERE
            .iter()
            .any(|keyword| fields.contains_key(*keyword))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        assert_eq!(closed(schema), expected);
    }

    #[test]
    fn arguments_are_those_that_are_named() {
        let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
        check(json!({"type": "object", "properties": {}}), nothing.clone());
        check(json!({"type": "object"}), nothing);
        let inner = json!({"type": "object", "properties": {"b": {"type": "object"}}});
        let mut closed_inner = inner.clone();
        closed_inner["additionalProperties"] = json!(false);
        check(
            json!({"properties": {"a": {"type": "array", "items": inner}}}),
            json!({"properties": {"a": {"type": "array", "items": closed_inner}}, "additionalProperties": false}),
        );
    }

    #[test]
    fn what_says_that_there_are_others_stays_open() {
        for schema in [
            json!({"type": "object", "additionalProperties": true, "properties": {"a": {}}}),
            json!({"type": "object", "patternProperties": {"^a": {}}}),
            json!({"type": "object", "required": ["a"]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
        ] {
            check(schema.clone(), schema);
        }
    }
}
