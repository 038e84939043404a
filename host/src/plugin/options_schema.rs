//! The options that a plugin declares.

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind::Required};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::allowed_values::allowed;
use crate::config::instead_of;

/// The options that a plugin or its models take, as the JSON Schema of an object. Without a schema all options are passed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OptionsSchema(Option<Value>);

/// An option, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct DeclaredOption<'a> {
    pub name: &'a str,
    /// The values that it may have.
    pub allowed: String,
    /// Its value if it is left out. None: the plugin decides.
    pub default: Option<String>,
    /// Its purpose. May be empty.
    pub description: &'a str,
}

impl OptionsSchema {
    /// Reads what a plugin declares. `what` names the options.
    ///
    /// # Errors
    /// The text is no schema that can be used.
    pub fn parse(text: Option<&str>, what: &str) -> Result<Self, String> {
        let Some(text) = text else {
            return Ok(Self(None));
        };
        let no_schema = |why: String| {
            format!("the plugin declares {what} with a wrong schema ({why}): tell its author")
        };
        let schema = serde_json::from_str(text).map_err(|why| no_schema(why.to_string()))?;
        validator(&schema).map_err(no_schema)?;
        Ok(Self(Some(schema)))
    }

    /// Whether the plugin declares its options.
    pub fn is_declared(&self) -> bool {
        self.0.is_some()
    }

    /// Checks options that the user has written at a place of the configuration.
    ///
    /// # Errors
    /// A sentence about the first option that is wrong, and what is allowed.
    pub fn check(&self, options: &Value, place: &str) -> Result<(), String> {
        let Some(schema) = &self.0 else {
            return Ok(());
        };
        if let Some(unknown) = unknown(schema, options, place) {
            return Err(unknown);
        }
        match validator(schema)?.iter_errors(options).next() {
            Some(error) => Err(sentence(schema, &error, place)),
            None => Ok(()),
        }
    }

    /// The options, in the plugin's order.
    pub fn list(&self) -> Vec<DeclaredOption<'_>> {
        let Some(schema) = &self.0 else {
            return Vec::new();
        };
        let properties = properties(schema).into_iter().flatten();
        properties
            .map(|(name, option)| DeclaredOption {
                name,
                allowed: allowed(schema, option),
                default: default(option),
                description: option["description"].as_str().unwrap_or_default(),
            })
            .collect()
    }
}

fn validator(schema: &Value) -> Result<Validator, String> {
    jsonschema::validator_for(schema).map_err(|error| error.to_string())
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema["properties"].as_object()
}

fn default(option: &Value) -> Option<String> {
    let default = option.get("default").filter(|default| !default.is_null());
    default.map(Value::to_string)
}

/// A sentence about the first option that the schema does not have, if it allows no others.
fn unknown(schema: &Value, options: &Value, place: &str) -> Option<String> {
    if schema["additionalProperties"] != Value::Bool(false) {
        return None;
    }
    let names: Vec<&String> = properties(schema).into_iter().flat_map(Map::keys).collect();
    let key = options
        .as_object()?
        .keys()
        .find(|key| !names.contains(key))?;
    let instead = match names.is_empty() {
        true => ": remove it, there are none".to_owned(),
        false => instead_of(key, &names),
    };
    Some(format!("\"{key}\" in {place} is no known option{instead}"))
}

fn sentence(schema: &Value, error: &ValidationError<'_>, place: &str) -> String {
    let key = error.instance_path().as_str().trim_start_matches('/');
    let option = properties(schema).and_then(|properties| properties.get(key));
    match (error.kind(), option) {
        (_, Some(option)) => {
            let (allowed, found) = (allowed(schema, option), error.instance());
            format!("\"{key}\" in {place} must be {allowed}, not {found}")
        }
        (Required { property }, None) if key.is_empty() => {
            format!("{property} is missing in {place}")
        }
        (_, None) if key.is_empty() => format!("{place} is refused: {error}"),
        (_, None) => format!("\"{key}\" in {place} is refused: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> OptionsSchema {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "mmap": {"type": "boolean", "default": true, "description": "Map the file."},
                "layers": {"type": ["integer", "null"], "minimum": 0, "default": null},
                "kv": {"$ref": "#/$defs/Kv", "default": "f16"},
                "paths": {"type": "array", "items": {"type": "string"}},
            },
            "$defs": {"Kv": {"type": "string", "enum": ["f16", "q8_0"]}},
        });
        OptionsSchema::parse(Some(&schema.to_string()), "options").unwrap()
    }

    #[track_caller]
    fn check(options: Value, expected: Result<(), &str>) {
        let found = schema().check(&options, "the options");
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn an_option_is_named_with_what_is_allowed() {
        check(json!({}), Ok(()));
        check(json!({"mmap": false, "layers": 3, "kv": "q8_0"}), Ok(()));
        check(
            json!({"n_layers": 3}),
            Err(
                "\"n_layers\" in the options is no known option; did you mean \"layers\"? Allowed: mmap, layers, kv, paths",
            ),
        );
        check(
            json!({"mmap": "yes"}),
            Err("\"mmap\" in the options must be true or false, not \"yes\""),
        );
        check(
            json!({"layers": -1}),
            Err("\"layers\" in the options must be a whole number of at least 0, not -1"),
        );
        check(
            json!({"kv": "q4_0"}),
            Err("\"kv\" in the options must be \"f16\" or \"q8_0\", not \"q4_0\""),
        );
        check(
            json!({"paths": ["a", 1]}),
            Err("\"paths/1\" in the options is refused: 1 is not of type \"string\""),
        );
    }

    #[test]
    fn options_are_listed_in_words() {
        let schema = schema();
        let listed = schema.list();
        let names: Vec<_> = listed.iter().map(|option| option.name).collect();
        assert_eq!(names, ["mmap", "layers", "kv", "paths"]);
        let mmap = DeclaredOption {
            name: "mmap",
            allowed: "true or false".into(),
            default: Some("true".into()),
            description: "Map the file.",
        };
        assert_eq!(listed[0], mmap);
        assert_eq!(listed[1].default, None);
        assert_eq!(listed[2].default.as_deref(), Some("\"f16\""));
    }

    #[test]
    fn without_a_schema_everything_is_passed_on_and_no_options_are_none() {
        let none = OptionsSchema::parse(None, "options").unwrap();
        assert_eq!(none.check(&json!({"a": 1}), "the options"), Ok(()));
        assert!(none.list().is_empty() && !none.is_declared());
        let empty = r#"{"type": "object", "additionalProperties": false}"#;
        let empty = OptionsSchema::parse(Some(empty), "options").unwrap();
        let refused = empty.check(&json!({"a": 1}), "the options").unwrap_err();
        assert_eq!(
            refused,
            "\"a\" in the options is no known option: remove it, there are none"
        );
    }

    #[test]
    fn a_missing_option_is_named() {
        let schema = r#"{"properties": {"a": {}}, "required": ["a"]}"#;
        let schema = OptionsSchema::parse(Some(schema), "options").unwrap();
        let missing = schema.check(&json!({}), "the options");
        assert_eq!(missing, Err("\"a\" is missing in the options".into()));
    }

    #[test]
    fn a_wrong_schema_is_the_author_s_fault() {
        for text in ["{", r#"{"type": 5}"#, r#"{"$ref": "https://a.example/b"}"#] {
            let refused = OptionsSchema::parse(Some(text), "its options").unwrap_err();
            assert!(
                refused.starts_with("the plugin declares its options with a wrong schema ("),
                "{refused}"
            );
        }
    }
}
