//! Describes in words the values that a JSON Schema allows.

use serde_json::Value;

/// Most levels of references and alternatives that are followed. Parts may refer to themselves.
const MAX_DEPTH: u32 = 8;

/// The values that a part of a schema allows: "true or false", "a whole number from 1 to 8". The part may refer to others in
/// the schema.
pub fn allowed(schema: &Value, part: &Value) -> String {
    let kinds = kinds(schema, part, MAX_DEPTH);
    match kinds.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "any value".to_owned(),
    }
}

/// The kinds of values that a part allows, without null, which stands for an option that is left out.
fn kinds(schema: &Value, part: &Value, depth: u32) -> Vec<String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Vec::new();
    };
    let referred = part["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix('#'));
    if let Some(part) = referred.and_then(|path| schema.pointer(path)) {
        return kinds(schema, part, depth);
    }
    if let Some(only) = part.get("const") {
        return vec![only.to_string()];
    }
    if let Some(values) = part["enum"].as_array() {
        return values
            .iter()
            .filter(|v| !v.is_null())
            .map(Value::to_string)
            .collect();
    }
    let alternatives = part["anyOf"].as_array().or(part["oneOf"].as_array());
    if let Some(parts) = alternatives {
        return parts
            .iter()
            .flat_map(|part| kinds(schema, part, depth))
            .collect();
    }
    let types = match &part["type"] {
        Value::Array(types) => types.as_slice(),
        one => std::slice::from_ref(one),
    };
    types
        .iter()
        .filter_map(|name| kind(name.as_str()?, part))
        .collect()
}

fn kind(name: &str, part: &Value) -> Option<String> {
    Some(match name {
        "boolean" => "true or false".to_owned(),
        "integer" => format!("a whole number{}", range(part)),
        "number" => format!("a number{}", range(part)),
        "string" => "text".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "a table".to_owned(),
        _ => return None,
    })
}

fn range(part: &Value) -> String {
    match (part.get("minimum"), part.get("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_its_words() {
        let schema = json!({"$defs": {
            "Loop": {"$ref": "#/$defs/Loop"},
            "Kv": {"enum": ["f16", "q8_0", "f32"]},
            "Flash": {"oneOf": [{"enum": ["on", "off"]}, {"const": "auto", "description": "a"}]},
        }});
        for (part, expected) in [
            (json!({"type": "boolean"}), "true or false"),
            (json!({"type": ["integer", "null"]}), "a whole number"),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 8}),
                "a whole number from 1 to 8",
            ),
            (
                json!({"type": "number", "maximum": 1.5}),
                "a number of at most 1.5",
            ),
            (json!({"$ref": "#/$defs/Kv"}), r#""f16", "q8_0" or "f32""#),
            (
                json!({"anyOf": [{"$ref": "#/$defs/Flash"}, {"type": "null"}]}),
                r#""on", "off" or "auto""#,
            ),
            (json!({"type": ["string", "array"]}), "text or a list"),
            (json!({"type": "object"}), "a table"),
            (json!({"$ref": "#/$defs/Loop"}), "any value"),
            (json!(true), "any value"),
        ] {
            assert_eq!(allowed(&schema, &part), expected);
        }
    }
}
