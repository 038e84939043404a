//! Finds out which kinds of values a schema allows, as far as the schema shows it.

use serde_json::{Map, Value};

/// A set of kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(u8);

const NAMES: [&str; 6] = ["string", "number", "boolean", "null", "array", "object"];

/// Most levels of references and combined schemas that are followed.
const DEPTH: u32 = 8;

/// Most schemas that are looked at. Beyond that, a schema may allow all kinds of values.
const MAX_SCHEMAS: u32 = 10_000;

impl Types {
    const NONE: Self = Self(0);
    /// All kinds.
    pub const ANY: Self = Self(0b11_1111);
    pub const STRING: Self = Self(0b1);

    /// The kinds that a schema may allow. References are resolved in `root`.
    pub fn of(schema: &Value, root: &Value) -> Self {
        Self::at(schema, root, DEPTH, &mut { MAX_SCHEMAS })
    }

    /// `left`: how many more schemas may be looked at.
    fn at(schema: &Value, root: &Value, depth: u32, left: &mut u32) -> Self {
        let (Some(fields), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else {
            return Self::ANY;
        };
        let Some(fewer) = left.checked_sub(1) else {
            return Self::ANY;
        };
        *left = fewer;
        let mut types = Self::ANY;
        for (keyword, value) in fields {
            types = types.and(match (keyword.as_str(), value) {
                ("type", Value::String(name)) => Self::named(name),
                ("type", Value::Array(names)) => {
                    Self::union(names.iter().filter_map(Value::as_str).map(Self::named))
                }
                ("const", value) => Self::of_value(value),
                ("enum", Value::Array(values)) => Self::union(values.iter().map(Self::of_value)),
                ("anyOf" | "oneOf", Value::Array(schemas)) => {
                    Self::union(schemas.iter().map(|one| Self::at(one, root, depth, left)))
                }
                ("allOf", Value::Array(schemas)) => schemas.iter().fold(Self::ANY, |all, one| {
                    all.and(Self::at(one, root, depth, left))
                }),
                ("$ref", Value::String(_)) => {
                    resolved(fields, root).map_or(Self::ANY, |one| Self::at(one, root, depth, left))
                }
                _ => Self::ANY,
            });
        }
        types
    }

    /// The kind of a value.
    pub fn of_value(value: &Value) -> Self {
        Self::named(match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
    }

    fn named(name: &str) -> Self {
        let name = if name == "integer" { "number" } else { name };
        let bit = NAMES.iter().position(|known| *known == name);
        bit.map_or(Self::NONE, |bit| Self(1 << bit))
    }

    fn union(types: impl Iterator<Item = Self>) -> Self {
        Self(types.fold(0, |all, one| all | one.0))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether both sets have a kind in common.
    pub fn has(self, other: Self) -> bool {
        self.and(other) != Self::NONE
    }
}

/// The schema that `$ref` refers to. None if there is no `$ref`, or if it leads out of the document or to nothing.
pub fn resolved<'a>(schema: &Map<String, Value>, root: &'a Value) -> Option<&'a Value> {
    let place = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_with_many_branches_is_looked_at_in_part() {
        let again = json!({"$ref": "#/$defs/a"});
        let root = json!({"$defs": {"a": {"anyOf": vec![again.clone(); 2000]}}});
        assert_eq!(Types::of(&again, &root), Types::ANY);
    }

    #[test]
    fn the_kinds_of_a_schema_are_those_that_all_of_it_allows() {
        let root =
            json!({"$defs": {"text": {"type": "string"}, "again": {"$ref": "#/$defs/again"}}});
        let string = Types::STRING;
        let either = Types(string.0 | Types::named("null").0);
        for (schema, expected) in [
            (json!({"type": "string", "minLength": 1}), string),
            (json!({"enum": ["a", "b"]}), string),
            (json!({"$ref": "#/$defs/text"}), string),
            (json!({"type": ["string", "null"]}), either),
            (json!({"anyOf": [{"const": "a"}, {"type": "null"}]}), either),
            (
                json!({"allOf": [{"type": ["string", "null"]}, {"$ref": "#/$defs/text"}]}),
                string,
            ),
            (json!({"type": "integer"}), Types::named("number")),
            (json!({"$ref": "#/$defs/again"}), Types::ANY),
            (json!({}), Types::ANY),
            (json!(true), Types::ANY),
        ] {
            assert_eq!(Types::of(&schema, &root), expected, "{schema}");
        }
    }
}
