//! Proves that no value obeys two schemas at once. If that holds for all branches of a `oneOf`, the `oneOf` means the
//! same as `anyOf`.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Most levels of references, parts and properties that a proof follows.
const MAX_DEPTH: u32 = 8;
/// Most comparisons of schemas, types and values for one schema. Proofs that take more fail.
const MAX_COMPARISONS: usize = 200_000;
/// Longest `enum` list whose values are compared with others.
const MAX_VALUES: usize = 200;

/// Proofs that branches exclude each other.
pub struct Proofs<'a> {
    /// The schema in which references are resolved.
    root: &'a Value,
    /// Number of comparisons so far.
    comparisons: Cell<usize>,
}

impl<'a> Proofs<'a> {
    pub fn new(root: &'a Value) -> Self {
        Self {
            root,
            comparisons: Cell::new(0),
        }
    }

    /// Whether these branches certainly exclude each other.
    pub fn exclude_each_other(&self, branches: &[Value]) -> bool {
        let pairs = branches.iter().enumerate();
        let mut pairs = pairs.flat_map(|(at, a)| branches[at + 1..].iter().map(move |b| (a, b)));
        pairs.all(|(a, b)| self.are_disjoint(a, b, 0))
    }

    /// Counts comparisons. Returns whether they may be made.
    fn may_compare(&self, count: usize) -> bool {
        let comparisons = self.comparisons.get().saturating_add(count);
        self.comparisons.set(comparisons);
        comparisons <= MAX_COMPARISONS
    }

    fn are_disjoint(&self, a: &Value, b: &Value, depth: u32) -> bool {
        if depth > MAX_DEPTH || !self.may_compare(1) {
            return false;
        }
        let (Value::Object(these), Value::Object(those)) = (a, b) else {
            return *a == Value::Bool(false) || *b == Value::Bool(false);
        };
        self.have_no_type_in_common(these, those)
            || self.have_no_value_in_common(these, those)
            || self.part_excludes(these, b, depth)
            || self.part_excludes(those, a, depth)
            || self.have_other_members(these, those, depth)
    }

    /// Whether `b` excludes a schema that every value of `a` must obey: a reference, a part of `allOf`, or all branches
    /// of `anyOf` or `oneOf`.
    fn part_excludes(&self, a: &Map<String, Value>, b: &Value, depth: u32) -> bool {
        let excludes = |a: &Value| self.are_disjoint(a, b, depth + 1);
        let list = |keyword: &str| a.get(keyword).and_then(Value::as_array);
        let referred = a.get("$ref").and_then(Value::as_str);
        let referred = referred.and_then(|path| self.root.pointer(path.strip_prefix('#')?));
        let mut alternatives = ["anyOf", "oneOf"].into_iter().filter_map(list);
        referred.is_some_and(excludes)
            || list("allOf").is_some_and(|parts| parts.iter().any(excludes))
            || alternatives.any(|all| all.iter().all(excludes))
    }

    /// Whether a member that one schema requires cannot obey what both schemas say of it. At least one of the schemas
    /// must allow objects only.
    fn have_other_members(
        &self,
        a: &Map<String, Value>,
        b: &Map<String, Value>,
        depth: u32,
    ) -> bool {
        let is_object = |schema: &Map<String, Value>| types(schema) == Some(vec!["object"]);
        if !is_object(a) && !is_object(b) {
            return false;
        }
        let required = |schema: &Map<String, Value>| {
            let names = schema.get("required").and_then(Value::as_array).cloned();
            names.unwrap_or_default()
        };
        let names = [required(a), required(b)].concat();
        if !self.may_compare(names.len()) {
            return false;
        }
        names.iter().filter_map(Value::as_str).any(|name| {
            match (member(a, name), member(b, name)) {
                (Some(a), Some(b)) => self.are_disjoint(a, b, depth + 1),
                _ => false,
            }
        })
    }

    fn have_no_type_in_common(&self, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
        let is_number = |name: &str| name == "integer" || name == "number";
        let is_same = |a: &str, b: &str| a == b || is_number(a) && is_number(b);
        match (types(a), types(b)) {
            (Some(a), Some(b)) if self.may_compare(a.len() * b.len()) => {
                !a.iter().any(|a| b.iter().any(|b| is_same(a, b)))
            }
            _ => false,
        }
    }

    fn have_no_value_in_common(&self, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
        let few = |schema| values(schema).filter(|values| values.len() <= MAX_VALUES);
        match (few(a), few(b)) {
            (Some(a), Some(b)) if self.may_compare(a.len() * b.len()) => {
                !a.iter().any(|a| b.iter().any(|b| may_be_equal(a, b)))
            }
            _ => false,
        }
    }
}

/// The schema of a member. None: nothing is certain about the member.
fn member<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let known = properties.and_then(|properties| properties.get(name));
    let is_closed = !schema.contains_key("patternProperties");
    let other = || schema.get("additionalProperties").filter(|_| is_closed);
    known.or_else(other)
}

/// The types that a schema allows: those that it names, else the types of the values that it lists. None: all types.
fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(vec![name.as_str()]),
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let of_values = || Some(values(schema)?.into_iter().map(type_of).collect());
    named.or_else(of_values)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The only values that a schema allows. None: the schema lists no values.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// Whether two values may be equal. 1 equals 1.0. Lists are not compared with lists, nor objects with objects: they may
/// be equal.
fn may_be_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proof_that_takes_too_long_fails() {
        let branch = |at: usize| {
            let values = (0..150).map(|value| format!("{at} {value}"));
            json!({"enum": values.collect::<Vec<_>>()})
        };
        let branches: Vec<_> = (0..100).map(branch).collect();
        let root = json!({});
        let proofs = Proofs::new(&root);
        assert!(proofs.exclude_each_other(&branches[..3]));
        assert!(!proofs.exclude_each_other(&branches));
        // All proofs of a schema share one limit.
        assert!(!proofs.exclude_each_other(&branches[..3]));
    }

    #[test]
    fn what_excludes_each_other_is_known_by_types_values_and_members() {
        let root = json!({"$defs": {
            "a": {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]},
            "b": {"allOf": [{"type": "object", "properties": {"kind": {"enum": ["b", "c"]}}, "required": ["kind"]}]},
            "loop": {"$ref": "#/$defs/loop"},
        }});
        let closed = json!({"type": "object", "properties": {"x": {}}, "required": ["x"], "additionalProperties": false});
        let other = json!({"type": "object", "properties": {"y": {}}, "required": ["y"], "additionalProperties": false});
        for (branches, expected) in [
            (
                json!([{"type": "string"}, {"type": "integer"}, {"type": "null"}]),
                true,
            ),
            (json!([{"type": "number"}, {"type": "integer"}]), false),
            (
                json!([{"type": ["string", "null"]}, {"type": ["null", "object"]}]),
                false,
            ),
            (
                json!([{"const": 1}, {"const": 2}, {"enum": ["1", null]}]),
                true,
            ),
            (json!([{"const": 1}, {"const": 1.0}]), false),
            (json!([{"const": 1}, {"type": "string"}]), true),
            (json!([{"const": "a"}, {"type": "string"}]), false),
            (json!([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]), true),
            (json!([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]), false),
            (
                json!([{"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/a"}]),
                false,
            ),
            (json!([closed, other]), true),
            (json!([closed, {"type": "object"}]), false),
            (json!([{"required": ["x"]}, {"required": ["y"]}]), false),
            (
                json!([{"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "object"}]),
                true,
            ),
            (json!([false, {}]), true),
            (
                json!([{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"a": {"const": 2}}, "required": ["a"]}]),
                false,
            ),
        ] {
            let branches = branches.as_array().unwrap();
            assert_eq!(
                Proofs::new(&root).exclude_each_other(branches),
                expected,
                "{branches:?}"
            );
        }
    }
}
