//! Makes the grammar of arguments that are not written as JSON, from their schema.

use std::iter::successors;

use serde_json::{Map, Value, json};

use super::marks::Marks;
use crate::{
    grammar::{Pattern, TextRules},
    markup::{Pairs, Tagged, Types, resolved},
};

/// Keywords that do not restrict values.
const ANNOTATIONS: [&str; 7] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// Makes the grammar of one function's arguments.
pub struct Values<'a> {
    root: &'a Value,
    marks: &'a Marks,
}

/// A member of an object: its name, its schema, and whether it has to be there.
type Member<'a> = (&'a str, &'a Value, bool);

impl<'a> Values<'a> {
    /// `root` is the schema of all arguments.
    pub fn new(root: &'a Value, marks: &'a Marks) -> Self {
        Self { root, marks }
    }

    /// Arguments between tags, in the order of the schema.
    pub fn tagged(&self, tags: Tagged) -> Vec<Pattern> {
        let members = members(self.root).into_iter();
        let members = members.map(|(key, schema, is_required)| {
            let head = format!("{}{key}{}", tags.before_key, tags.after_key);
            let argument = [self.marks.split(&head), self.tagged_value(schema, tags)].concat();
            optional(argument, is_required)
        });
        members.chain(self.more_tagged(tags)).collect()
    }

    /// Arguments that the schema does not name. None if it allows no others.
    fn more_tagged(&self, tags: Tagged) -> Option<Pattern> {
        let schema = open_schema(self.root)?;
        let mut argument = self.marks.split(tags.before_key);
        argument.push(Pattern::Free(TextRules::matching(KEY)));
        argument.extend(self.marks.split(tags.after_key));
        argument.extend(self.tagged_value(schema, tags));
        Some(Pattern::Many(argument))
    }

    /// A value, and the tag behind it.
    fn tagged_value(&self, schema: &Value, tags: Tagged) -> Vec<Pattern> {
        let schema = self.resolved(schema);
        let end = tags.after_value;
        if !Types::of(schema, self.root).has(Types::STRING) {
            return [
                vec![Pattern::Json(self.part(schema))],
                self.marks.split(end),
            ]
            .concat();
        }
        if let Some(values) = constants(schema) {
            let written = values.iter().map(|value| match value {
                Value::String(text) => vec![Pattern::Text(text.clone())],
                value => vec![Pattern::Text(value.to_string())],
            });
            let written = written.filter(|text| *text != [Pattern::Text(String::new())]);
            return [
                vec![Pattern::OneOf(written.collect())],
                self.marks.split(end),
            ]
            .concat();
        }
        let (close, line_feed) = (end.trim(), end.starts_with('\n'));
        let rules = text_rules(schema, line_feed).without(close);
        let behind = self
            .marks
            .split(&end[end.find(close).unwrap_or(0) + close.len()..]);
        [self.marks.until(rules, close), behind].concat()
    }

    /// Arguments with separators between them, in the order of the schema.
    pub fn pairs(&self, notation: Pairs) -> Vec<Pattern> {
        self.members(self.root, notation, ["", notation.assign])
    }

    fn members(&self, schema: &Value, notation: Pairs, around: [&str; 2]) -> Vec<Pattern> {
        let [before, after] = around;
        let members = members(schema).into_iter();
        let mut members: Vec<_> = members
            .map(|(key, schema, is_required)| {
                let mut pair = self.marks.split(&format!("{before}{key}{after}"));
                pair.push(self.value(schema, notation));
                (Pattern::OneOf(vec![pair]), is_required)
            })
            .collect();
        if let Some(schema) = open_schema(schema) {
            let mut pair = vec![Pattern::Free(TextRules::matching(format!("{before}{KEY}")))];
            pair.extend(self.marks.split(after));
            pair.push(Pattern::Json(self.part(schema)));
            let pair = Pattern::OneOf(vec![pair]);
            let separated = vec![Pattern::Text(notation.separator.to_owned()), pair.clone()];
            let pairs = Pattern::OneOf(vec![vec![pair, Pattern::Many(separated)]]);
            members.push((pairs, false));
        }
        separated(&members, notation.separator)
    }

    /// A value in a model's notation. A value for which there is no simple rule is JSON, which the parser reads too.
    fn value(&self, schema: &Value, notation: Pairs) -> Pattern {
        let schema = self.resolved(schema);
        let text = |text: &str| Pattern::Text(text.to_owned());
        let [yes, no, null] = notation.words;
        if let Some(values) = constants(schema) {
            let values = values
                .iter()
                .map(|value| vec![self.constant(value, notation)]);
            return Pattern::OneOf(values.collect());
        }
        let kind = schema.get("type").and_then(Value::as_str);
        match (kind, &keywords(schema)[..]) {
            (Some("string"), ["type"]) => self.string(notation),
            (Some("boolean"), ["type"]) => Pattern::OneOf(vec![vec![text(yes)], vec![text(no)]]),
            (Some("null"), ["type"]) => text(null),
            (Some("array"), ["items", "type"]) if schema["items"].is_object() => {
                let item = self.value(&schema["items"], notation);
                let more = Pattern::Many(vec![text(notation.separator), item.clone()]);
                let items = vec![text("["), item, more, text("]")];
                Pattern::OneOf(vec![items, vec![text("[]")]])
            }
            (Some("object"), keywords) if is_simple_object(keywords) => {
                let members = self.members(schema, notation, notation.inner_key);
                let all = [vec![text("{")], members, vec![text("}")]].concat();
                Pattern::OneOf(vec![all])
            }
            _ => Pattern::Json(self.part(schema)),
        }
    }

    fn string(&self, notation: Pairs) -> Pattern {
        let quotes = notation.quotes.iter().map(|quote| match *quote {
            // Text between quotation marks of one character may have escapes.
            quote if quote.len() == 1 => {
                let inner = format!(r#"([^{quote}\\\n]|\\[^\n])*"#);
                vec![Pattern::Free(TextRules::matching(format!(
                    "{quote}{inner}{quote}"
                )))]
            }
            quote => {
                let text = self.marks.until(TextRules::default(), quote);
                [self.marks.split(quote), text].concat()
            }
        });
        Pattern::OneOf(quotes.collect())
    }

    fn constant(&self, value: &Value, notation: Pairs) -> Pattern {
        let written = notation.write_value(value);
        let mut alternatives = vec![self.marks.split(&written)];
        if let Value::String(text) = value {
            let has_escapes = text.contains(['\\', '\'', '"', '\n']);
            let quotes = notation.quotes.iter().skip(1).filter(|_| !has_escapes);
            alternatives.extend(quotes.map(|q| vec![Pattern::Text(format!("{q}{text}{q}"))]));
        }
        Pattern::OneOf(alternatives)
    }

    /// The schema that a chain of references leads to.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let next = |schema: &&'s Value| resolved(schema.as_object()?, self.root);
        let is_reference = |schema: &&'s Value| keywords(schema) == ["$ref"];
        let mut chain = successors(Some(schema), |schema| {
            is_reference(schema).then(|| next(schema)).flatten()
        });
        // References may form a circle.
        chain.by_ref().take(8).last().unwrap_or(schema)
    }

    /// A schema that can be used without its document. It gets a copy of the document's definitions.
    fn part(&self, schema: &Value) -> Value {
        let mut part = match schema {
            Value::Object(fields) => fields.clone(),
            Value::Bool(true) => Map::new(),
            other => return other.clone(),
        };
        for key in ["$defs", "definitions", "x-guidance"] {
            if let Some(value) = self.root.get(key) {
                part.entry(key).or_insert_with(|| value.clone());
            }
        }
        Value::Object(part)
    }
}

/// A regular expression of keys that the schema does not name.
const KEY: &str = "[A-Za-z_][A-Za-z0-9_]{0,63}";

fn members(schema: &Value) -> Vec<Member<'_>> {
    let required = schema["required"].as_array();
    let is_required = |key: &str| required.is_some_and(|all| all.iter().any(|one| one == key));
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(key, schema)| (key.as_str(), schema, is_required(key)))
        .collect()
}

/// The schema of members that are not named. None: no others are allowed.
fn open_schema(schema: &Value) -> Option<&Value> {
    const ANY: &Value = &Value::Bool(true);
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(schema) => Some(schema),
        None => Some(ANY),
    }
}

fn optional(patterns: Vec<Pattern>, is_required: bool) -> Pattern {
    match is_required {
        true => Pattern::OneOf(vec![patterns]),
        false => Pattern::OneOf(vec![patterns, Vec::new()]),
    }
}

/// Members in order, with separators between those that are present.
fn separated(members: &[(Pattern, bool)], separator: &str) -> Vec<Pattern> {
    let separator = Pattern::Text(separator.to_owned());
    let more = |(member, is_required): &(Pattern, bool)| {
        optional(vec![separator.clone(), member.clone()], *is_required)
    };
    let last_first = members.iter().position(|(_, is_required)| *is_required);
    let firsts = &members[..last_first.map_or(members.len(), |at| at + 1)];
    let mut alternatives: Vec<Vec<Pattern>> = (0..firsts.len())
        .map(|first| {
            let rest = members[first + 1..].iter().map(more);
            [members[first].0.clone()].into_iter().chain(rest).collect()
        })
        .collect();
    if last_first.is_none() {
        alternatives.push(Vec::new());
    }
    vec![Pattern::OneOf(alternatives)]
}

/// The only values that a schema allows, if it lists them.
fn constants(schema: &Value) -> Option<Vec<Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value.clone()]),
        (None, Some(Value::Array(values))) => Some(values.clone()),
        _ => None,
    }
}

/// The keywords of a schema that restrict values, sorted by name.
fn keywords(schema: &Value) -> Vec<&str> {
    let fields = schema.as_object().into_iter().flatten();
    let keywords = fields.map(|(key, _)| key.as_str());
    let mut keywords: Vec<_> = keywords.filter(|key| !ANNOTATIONS.contains(key)).collect();
    keywords.sort_unstable();
    keywords
}

fn is_simple_object(keywords: &[&str]) -> bool {
    let known = ["additionalProperties", "properties", "required", "type"];
    keywords.contains(&"properties") && keywords.iter().all(|keyword| known.contains(keyword))
}

/// The rules of a text, from the length and the pattern in its schema. `line_feed`: a line feed stands behind the text.
fn text_rules(schema: &Value, line_feed: bool) -> TextRules {
    let end = if line_feed { r"\n" } else { "" };
    let count = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let (least, most) = (count("minLength"), count("maxLength"));
    let mut rules = TextRules::default();
    if Types::of(schema, &json!({})) != Types::STRING {
        return rules;
    }
    if least.is_some() || most.is_some() {
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        let length = format!("(?s:.){{{},{most}}}{end}", least.unwrap_or(0));
        rules.all.push(length);
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let any = "(?s:.*)";
        let (before, pattern) = match pattern.strip_prefix('^') {
            Some(rest) => ("", rest),
            None => (any, pattern),
        };
        let (pattern, after) = match pattern.strip_suffix('$') {
            Some(rest) if !rest.ends_with('\\') => (rest, end),
            _ => (pattern, any),
        };
        let pattern = pattern.replace('/', r"\/");
        rules.all.push(format!("{before}({pattern}){after}"));
    }
    rules
}
