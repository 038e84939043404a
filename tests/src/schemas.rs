//! JSON Schemas for tests: some for each keyword that grammars support, and nested ones.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// A schema and its subject.
pub struct Example {
    /// The keyword, or `nested`.
    pub about: String,
    /// The schema that answers must follow.
    pub schema: Value,
}

/// Number of schemas for each keyword.
const EACH: usize = 10;

/// Number of nested schemas.
const NESTED: usize = 50;

/// All schemas. They are the same every time.
pub fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (keyword, schema) in KEYWORDS {
        for at in 0..EACH {
            examples.push(Example {
                about: (*keyword).to_owned(),
                schema: schema(at),
            });
        }
    }
    let mut random = Rng::with_seed(7);
    for _ in 0..NESTED {
        examples.push(Example {
            about: "nested".to_owned(),
            schema: nested(&mut random),
        });
    }
    examples
}

/// A keyword, and a function that makes its schemas by number.
type Keyword = (&'static str, fn(usize) -> Value);

const KEYWORDS: &[Keyword] = &[
    ("type", |at| types()[at].clone()),
    ("enum", |at| json!({"enum": scalars()[..=at]})),
    ("const", |at| json!({"const": constants()[at]})),
    ("anyOf", |at| json!({"anyOf": choices(at)})),
    ("oneOf", |at| json!({"oneOf": choices(at)})),
    ("allOf", all_of),
    ("$ref", reference),
    (
        "items",
        |at| json!({"type": "array", "items": small(at), "maxItems": 3 + at / 5}),
    ),
    (
        "prefixItems",
        |at| json!({"type": "array", "prefixItems": prefix(at), "items": false, "minItems": at / 3}),
    ),
    ("additionalItems", |at| {
        json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "array", "items": prefix(at), "additionalItems": small(at), "maxItems": 5,
        })
    }),
    (
        "minItems",
        |at| json!({"type": "array", "items": small(at), "minItems": at, "maxItems": at + 2}),
    ),
    (
        "maxItems",
        |at| json!({"type": "array", "items": small(at), "maxItems": at}),
    ),
    ("properties", |at| closed(at, 0)),
    ("required", |at| closed(at, at)),
    ("additionalProperties", |at| {
        json!({
            "type": "object", "properties": properties(1 + at), "required": ["key_0"],
            "additionalProperties": if at < 2 { json!(false) } else { small(at) },
        })
    }),
    ("patternProperties", |at| {
        json!({
            "type": "object",
            "patternProperties": {format!("^[a-{}]{{1,4}}$", letter(at + 1)): small(at), "^_[0-9]+$": {"type": "null"}},
            "additionalProperties": false,
        })
    }),
    ("minProperties", |at| {
        properties_between(at, "minProperties", at / 2 + 1)
    }),
    ("maxProperties", |at| {
        properties_between(at, "maxProperties", at / 2 + 2)
    }),
    (
        "minLength",
        |at| json!({"type": "string", "minLength": at, "maxLength": 2 * at + 3}),
    ),
    (
        "maxLength",
        |at| json!({"type": "string", "maxLength": 3 * at}),
    ),
    (
        "pattern",
        |at| json!({"type": "string", "pattern": PATTERNS[at]}),
    ),
    (
        "format",
        |at| json!({"type": "string", "format": FORMATS[at]}),
    ),
    ("minimum", |at| between(at, "minimum", "maximum")),
    ("maximum", |at| between(at + 5, "minimum", "maximum")),
    ("exclusiveMinimum", |at| {
        between(at, "exclusiveMinimum", "maximum")
    }),
    ("exclusiveMaximum", |at| {
        between(at, "minimum", "exclusiveMaximum")
    }),
    ("multipleOf", |at| {
        let step = [2.0, 3.0, 7.0, 10.0, 25.0, 0.5, 0.25, 0.125, 1.5, 12.0][at];
        json!({"type": "number", "multipleOf": step, "minimum": -1000, "maximum": 1000})
    }),
];

const PATTERNS: [&str; EACH] = [
    "^[a-z]{3,8}$",
    "^\\d{3}-\\d{4}$",
    "^(red|green|blue)$",
    "^[A-Z][a-z]+( [A-Z][a-z]+)?$",
    "^#[0-9a-f]{6}$",
    "^v\\d+\\.\\d+(\\.\\d+)?$",
    "^[^\\s@]{1,6}@[a-z]{2,5}\\.org$",
    "^\\+?[1-9][0-9 ]{6,10}[0-9]$",
    "^(yes|no)[.!]?$",
    "^[αβγ]{2}[Ѐ-ӿ]{1,3}$",
];

const FORMATS: [&str; EACH] = [
    "date",
    "uuid",
    "ipv4",
    "time",
    "date-time",
    "duration",
    "ipv6",
    "email",
    "hostname",
    "uri",
];

fn types() -> [Value; EACH] {
    let short = json!({"type": "string", "maxLength": 8});
    [
        json!({"type": "null"}),
        json!({"type": "boolean"}),
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "string"}),
        json!({"type": ["null", "boolean"]}),
        json!({"type": ["integer", "boolean", "null"]}),
        json!({"type": "array", "items": short, "maxItems": 3}),
        json!({"type": "object", "properties": {"a": short}, "additionalProperties": false}),
        json!({"type": ["string", "null"], "maxLength": 5}),
    ]
}

fn scalars() -> [Value; EACH] {
    [
        json!("north"),
        json!("south-east"),
        json!(null),
        json!(true),
        json!(17),
        json!("a \"quoted\" \\ word"),
        json!("日本"),
        json!(-3),
        json!(2.5),
        json!("line\nbreak"),
    ]
}

fn constants() -> [Value; EACH] {
    let [a, b, c, d, e, f, g, ..] = scalars();
    let list = json!([a, [b, c], {}]);
    let record = json!({"x": d, "y": {"z": e}, "é \"": []});
    [a, b, c, d, e, f, g, list, record, json!(0)]
}

/// Schemas that exclude each other.
fn choices(at: usize) -> Vec<Value> {
    let record = |kind: &str, value| {
        json!({
            "type": "object", "properties": {"kind": {"const": kind}, "value": value},
            "required": ["kind", "value"], "additionalProperties": false,
        })
    };
    let all = [
        json!({"type": "boolean"}),
        json!({"type": "integer", "minimum": 0, "maximum": 99}),
        json!({"type": "string", "maxLength": 6}),
        record(
            "circle",
            json!({"type": "integer", "minimum": 1, "maximum": 9}),
        ),
        record("label", json!({"type": "string", "maxLength": 9})),
        json!({"type": "null"}),
    ];
    let from = at % all.len();
    let len = 2 + (at % 3 + at / all.len()) % 3;
    all.into_iter().cycle().skip(from).take(len).collect()
}

fn all_of(at: usize) -> Value {
    match at % 2 {
        0 => json!({"allOf": [
            {"type": "integer", "minimum": at}, {"maximum": 10 * at + 10}, {"multipleOf": at / 2 + 1},
        ]}),
        _ => json!({"allOf": [
            {"type": "object", "properties": {"a": small(at)}, "required": ["a"]},
            {"properties": {"b": small(at + 1)}, "required": ["b"]},
            {"properties": {"a": true, "b": true}, "additionalProperties": false},
        ]}),
    }
}

fn reference(at: usize) -> Value {
    match at % 2 {
        0 => json!({
            "$defs": {"thing": small(at), "pair": {
                "type": "array", "items": {"$ref": "#/$defs/thing"}, "minItems": 2, "maxItems": 2,
            }},
            "type": "object", "properties": {"first": {"$ref": "#/$defs/pair"}, "second": {"$ref": "#/$defs/thing"}},
            "required": ["first"], "additionalProperties": false,
        }),
        // A tree, by recursion.
        _ => json!({
            "$defs": {"node": {
                "type": "object",
                "properties": {"name": {"enum": ["leaf", "twig"]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                "required": ["name", "next"], "additionalProperties": false,
            }},
            "type": "object", "properties": {"depth": {"const": at}, "tree": {"$ref": "#/$defs/node"}},
            "required": ["depth", "tree"], "additionalProperties": false,
        }),
    }
}

/// A schema with few valid values.
fn small(at: usize) -> Value {
    let all = [
        json!({"type": "integer", "minimum": 0, "maximum": 255}),
        json!({"type": "boolean"}),
        json!({"type": "string", "maxLength": 5}),
        json!({"enum": ["a", "bb", "ccc", null]}),
        json!({"type": "string", "pattern": "^[a-f0-9]{2,4}$"}),
    ];
    all[at % all.len()].clone()
}

fn prefix(at: usize) -> Vec<Value> {
    (0..=at / 3).map(|offset| small(at + offset)).collect()
}

fn properties(count: usize) -> Map<String, Value> {
    (0..count)
        .map(|at| (format!("key_{at}"), small(at)))
        .collect()
}

/// An object with `keys` known keys, of which the first `required` are required.
fn closed(keys: usize, required: usize) -> Value {
    let names: Vec<_> = (0..required).map(|at| format!("key_{at}")).collect();
    json!({
        "type": "object", "properties": properties(keys + 1), "required": names, "additionalProperties": false,
    })
}

/// An object with one required key and others that match a pattern.
fn properties_between(at: usize, keyword: &str, limit: usize) -> Value {
    json!({
        "type": "object", "properties": {"id": {"const": at}}, "required": ["id"],
        "patternProperties": {"^[a-z]{6}$": small(at)}, "additionalProperties": false, keyword: limit,
    })
}

fn between(at: usize, minimum: &str, maximum: &str) -> Value {
    let kind = ["integer", "number"][at % 2];
    let from = [-1000.0, -10.5, 0.0, 0.25, 1.0, 3.0, 99.0][at % 7];
    let to = from + [2.0, 1.0, 10.0, 255.0, 1e6][at % 5];
    json!({"type": kind, minimum: from, maximum: to})
}

fn letter(at: usize) -> char {
    char::from(b'a' + at as u8)
}

fn nested(random: &mut Rng) -> Value {
    let mut schema = record(random, 3);
    schema["$defs"] = json!({"shared": record(random, 1)});
    schema["properties"]["again"] = json!({"$ref": "#/$defs/shared"});
    schema
}

fn record(random: &mut Rng, depth: usize) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for at in 0..1 + random.usize(..4) {
        let name = format!(
            "{}{at}",
            ["name", "size", "è", "is it", "x"][random.usize(..5)]
        );
        if random.usize(..3) > 0 {
            required.push(name.clone());
        }
        properties.insert(name, value(random, depth));
    }
    json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    })
}

fn value(random: &mut Rng, depth: usize) -> Value {
    let at = random.usize(..10);
    match random.usize(..if depth == 0 { 4 } else { 8 }) {
        0 => small(at),
        1 => between(at, "minimum", "maximum"),
        2 => json!({"enum": scalars()[..=at]}),
        3 => json!({"type": "string", "pattern": PATTERNS[at]}),
        4 => json!({"anyOf": choices(at)}),
        5 => json!({"type": "array", "items": value(random, depth - 1), "maxItems": 3}),
        6 => json!({"oneOf": [{"type": "null"}, record(random, depth - 1)]}),
        _ => record(random, depth - 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn each_keyword_has_as_many_different_schemas() {
        let mut schemas: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Example { about, schema } in examples() {
            schemas.entry(about).or_default().insert(schema.to_string());
        }
        let nested = schemas.remove("nested").map(|schemas| schemas.len());
        assert_eq!(nested, Some(NESTED));
        assert_eq!(schemas.len(), KEYWORDS.len());
        for (keyword, schemas) in schemas {
            assert_eq!(schemas.len(), EACH, "{keyword}");
            assert!(schemas.iter().all(|schema| schema.contains(&keyword)));
        }
    }
}
