//! Adapts references, and what stands beside them, to how llguidance reads schemas. This is for schemas of older drafts
//! and for hand-written schemas.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::walk::for_each;

/// Drafts that llguidance knows: the part of an identifier that names the draft, and the identifier that llguidance
/// takes.
const DRAFTS: [(&str, &str); 5] = [
    ("draft-04", "http://json-schema.org/draft-04/schema#"),
    ("draft-06", "http://json-schema.org/draft-06/schema#"),
    ("draft-07", "http://json-schema.org/draft-07/schema#"),
    ("2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Keywords of the drafts that restrict no value: they are annotations, or they name or hold other schemas.
const NEUTRAL: [&str; 16] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords of the drafts that restrict values.
const ASSERTIONS: [&str; 48] = [
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$vocabulary",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentSchema",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "x-guidance",
];

/// Keywords beside which llguidance takes unknown keywords for restrictions.
const APPLICATORS: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Tidies a schema without changing what is valid: names the draft by llguidance's identifier, writes references as
/// URIs, and removes keywords that have no meaning beside a reference or another applicator.
pub fn tidy_references(schema: &mut Value) {
    let Value::Object(root) = schema else {
        return;
    };
    let draft = name_draft(root);
    // Up to draft 7, keywords beside a reference have no effect.
    let ignores_siblings = draft.is_some_and(|name| name.starts_with("draft-"));
    let named = named_by_references(schema);
    for_each(schema, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get_mut("$ref")
            && reference.starts_with('#')
        {
            *reference = escaped(reference);
        }
        let is_reference = fields.get("$ref").is_some_and(Value::is_string);
        // A root is recognized by `$schema`. It may hold restrictions beside a reference.
        let is_alone = ignores_siblings && is_reference && !fields.contains_key("$schema");
        let has_applicator = APPLICATORS.iter().any(|name| fields.contains_key(*name));
        let has_meaning = |keyword: &str| match is_alone {
            true => keyword == "$ref",
            false => !has_applicator || ASSERTIONS.contains(&keyword),
        };
        fields.retain(|keyword, _| {
            has_meaning(keyword) || NEUTRAL.contains(&keyword.as_str()) || named.contains(keyword)
        });
    });
}

/// Returns the draft if the schema names a known one, and sets llguidance's identifier. Removes any other identifier.
fn name_draft(root: &mut Map<String, Value>) -> Option<&'static str> {
    let identifier = root.get("$schema")?.as_str().unwrap_or_default();
    let draft = DRAFTS.iter().find(|(name, _)| identifier.contains(name));
    match draft {
        Some((name, known)) => {
            root.insert("$schema".to_owned(), Value::from(*known));
            Some(name)
        }
        None => {
            root.shift_remove("$schema");
            None
        }
    }
}

/// All segments of the paths in references. Keywords with these names must stay, because references lead through them.
fn named_by_references(schema: &mut Value) -> HashSet<String> {
    let mut named = HashSet::new();
    for_each(schema, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            named.extend(reference.split('/').map(str::to_owned));
        }
    });
    named
}

/// Percent-encodes the characters that a URI must not contain.
fn escaped(reference: &str) -> String {
    let mut uri = String::with_capacity(reference.len());
    for c in reference.chars() {
        match c {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                uri += &format!("%{:02X}", u32::from(c));
            }
            c => uri.push(c),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut schema: Value, expected: Value) {
        tidy_references(&mut schema);
        assert_eq!(schema, expected);
    }

    #[test]
    fn what_stands_beside_references_without_a_meaning_goes() {
        let draft = "http://json-schema.org/draft-07/schema#";
        check(
            json!({"$schema": draft, "properties": {"a": {"$ref": "#/definitions/x", "type": "string", "title": "A"}}}),
            json!({"$schema": draft, "properties": {"a": {"$ref": "#/definitions/x", "title": "A"}}}),
        );
        check(
            json!({"properties": {"a": {"$ref": "#/$defs/x", "type": "string", "markdownDescription": "A"}}}),
            json!({"properties": {"a": {"$ref": "#/$defs/x", "type": "string"}}}),
        );
    }

    #[test]
    fn what_references_lead_to_stays() {
        let schema = json!({"anyOf": [{"$ref": "#/parts/a"}], "parts": {"a": {"type": "string"}}});
        check(schema.clone(), schema);
    }

    #[test]
    fn members_may_be_called_as_they_like() {
        let schema = json!({"properties": {"$ref": {"type": "string"}, "x": {}}, "enum": [{"$ref": "#/a b", "y": 1}]});
        check(schema.clone(), schema);
    }

    #[test]
    fn references_become_uris() {
        check(
            json!({"$ref": "#/$defs/a b|c", "$defs": {"a b|c": {}}}),
            json!({"$ref": "#/$defs/a%20b%7Cc", "$defs": {"a b|c": {}}}),
        );
    }

    #[test]
    fn drafts_are_named_as_they_should_be() {
        check(
            json!({"$schema": "https://json-schema.org/draft-07/schema"}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
        );
        check(json!({"$schema": "https://example.com/mine"}), json!({}));
    }
}
