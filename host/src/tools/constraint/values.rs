//! Makes the grammar of arguments that are not written as JSON, from their schema.

use std::{iter::successors, ptr};

use serde_json::{Map, Value, json};

use super::{marks::Marks, room::GrammarRoom};
use crate::{
    grammar::{GrammarError, Pattern, TextRules},
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

/// Most objects and lists within each other that have the model's notation. Deeper ones are JSON.
const MAX_DEPTH: usize = 32;

/// Makes the grammar of one function's arguments.
pub struct Values<'a> {
    root: &'a Value,
    marks: &'a Marks,
    room: &'a GrammarRoom,
}

/// A member of an object: its name, its schema, and whether it has to be there.
type Member<'a> = (&'a str, &'a Value, bool);

type Made<T> = Result<T, GrammarError>;

impl<'a> Values<'a> {
    /// `root` is the schema of all arguments.
    pub fn new(root: &'a Value, marks: &'a Marks, room: &'a GrammarRoom) -> Self {
        Self { root, marks, room }
    }

    /// Arguments between tags, in the order of the schema.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn tagged(&self, tags: Tagged) -> Made<Vec<Pattern>> {
        let members = members(self.root).into_iter();
        let members = members.map(|(key, schema, is_required)| {
            let head = format!("{}{key}{}", tags.before_key, tags.after_key);
            let value = self.tagged_value(schema, tags)?;
            Ok(optional(
                [self.marks.split(&head), value].concat(),
                is_required,
            ))
        });
        members.chain(self.more_tagged(tags).transpose()).collect()
    }

    /// Arguments that the schema does not name. None if it allows no others.
    fn more_tagged(&self, tags: Tagged) -> Made<Option<Pattern>> {
        let Some(schema) = open_schema(self.root) else {
            return Ok(None);
        };
        let mut argument = self.marks.split(tags.before_key);
        argument.push(Pattern::Free(TextRules::matching(KEY)));
        argument.extend(self.marks.split(tags.after_key));
        argument.extend(self.tagged_value(schema, tags)?);
        Ok(Some(Pattern::Many(argument)))
    }

    /// A value, and the tag behind it.
    fn tagged_value(&self, schema: &Value, tags: Tagged) -> Made<Vec<Pattern>> {
        let schema = self.resolved(schema);
        let end = tags.after_value;
        if !Types::of(schema, self.root).has(Types::STRING) {
            return Ok([vec![self.json(schema)?], self.marks.split(end)].concat());
        }
        if let Some(values) = constants(schema) {
            let written = values.iter().map(|value| match value {
                Value::String(text) => vec![Pattern::Text(text.clone())],
                value => vec![Pattern::Text(value.to_string())],
            });
            let written = written.filter(|text| *text != [Pattern::Text(String::new())]);
            let written = Pattern::OneOf(written.collect());
            return Ok([vec![written], self.marks.split(end)].concat());
        }
        let (close, line_feed) = (end.trim(), end.starts_with('\n'));
        let rules = text_rules(schema, line_feed).without(close);
        let behind = self
            .marks
            .split(&end[end.find(close).unwrap_or(0) + close.len()..]);
        Ok([self.marks.until(rules, close), behind].concat())
    }

    /// Arguments with separators between them, in the order of the schema.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn pairs(&self, notation: Pairs) -> Made<Vec<Pattern>> {
        let around = ["", notation.assign];
        self.members(self.root, notation, around, &mut vec![self.root])
    }

    /// The members of an object. `within`: the schemas that enclose them.
    fn members(
        &self,
        schema: &'a Value,
        notation: Pairs,
        around: [&str; 2],
        within: &mut Vec<&'a Value>,
    ) -> Made<Vec<Pattern>> {
        let [before, after] = around;
        let mut all = Vec::new();
        for (key, schema, is_required) in members(schema) {
            let mut pair = self.marks.split(&format!("{before}{key}{after}"));
            pair.push(self.value(schema, notation, within)?);
            all.push((Pattern::OneOf(vec![pair]), is_required));
        }
        if let Some(schema) = open_schema(schema) {
            let mut pair = vec![Pattern::Free(TextRules::matching(format!("{before}{KEY}")))];
            pair.extend(self.marks.split(after));
            pair.push(self.json(schema)?);
            let pair = Pattern::OneOf(vec![pair]);
            let separated = vec![Pattern::Text(notation.separator.to_owned()), pair.clone()];
            let pairs = Pattern::OneOf(vec![vec![pair, Pattern::Many(separated)]]);
            all.push((pairs, false));
        }
        self.room.take(size_separated(&all))?;
        Ok(separated(&all, notation.separator))
    }

    /// A value in a model's notation. A value for which there is no simple rule is JSON, which the parser reads too. So is a
    /// value whose schema is also a schema that encloses it.
    fn value(
        &self,
        schema: &'a Value,
        notation: Pairs,
        within: &mut Vec<&'a Value>,
    ) -> Made<Pattern> {
        self.room.take(1)?;
        let schema = self.resolved(schema);
        let is_recursive = within.iter().any(|outer| ptr::eq(*outer, schema));
        if is_recursive || within.len() > MAX_DEPTH {
            return self.json(schema);
        }
        within.push(schema);
        let value = self.simple_value(schema, notation, within);
        within.pop();
        value
    }

    fn simple_value(
        &self,
        schema: &'a Value,
        notation: Pairs,
        within: &mut Vec<&'a Value>,
    ) -> Made<Pattern> {
        let text = |text: &str| Pattern::Text(text.to_owned());
        let [yes, no, null] = notation.words;
        if let Some(values) = constants(schema) {
            self.room.take(values.len())?;
            let values = values
                .iter()
                .map(|value| vec![self.constant(value, notation)]);
            return Ok(Pattern::OneOf(values.collect()));
        }
        let kind = schema.get("type").and_then(Value::as_str);
        Ok(match (kind, &keywords(schema)[..]) {
            (Some("string"), ["type"]) => self.string(notation),
            (Some("boolean"), ["type"]) => Pattern::OneOf(vec![vec![text(yes)], vec![text(no)]]),
            (Some("null"), ["type"]) => text(null),
            (Some("array"), ["items", "type"]) if schema["items"].is_object() => {
                let item = self.value(&schema["items"], notation, within)?;
                self.room.take(size(&item))?;
                let more = Pattern::Many(vec![text(notation.separator), item.clone()]);
                let items = vec![text("["), item, more, text("]")];
                Pattern::OneOf(vec![items, vec![text("[]")]])
            }
            (Some("object"), keywords) if is_simple_object(keywords) => {
                let members = self.members(schema, notation, notation.inner_key, within)?;
                let all = [vec![text("{")], members, vec![text("}")]].concat();
                Pattern::OneOf(vec![all])
            }
            _ => self.json(schema)?,
        })
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
    fn resolved<'s>(&self, schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        let next = |schema: &&'s Value| resolved(schema.as_object()?, self.root);
        let is_reference = |schema: &&'s Value| keywords(schema) == ["$ref"];
        let mut chain = successors(Some(schema), |schema| {
            is_reference(schema).then(|| next(schema)).flatten()
        });
        // References may form a circle.
        chain.by_ref().take(8).last().unwrap_or(schema)
    }

    /// JSON that fits this part of the document. A part with references gets a copy of the document's definitions.
    fn json(&self, schema: &Value) -> Made<Pattern> {
        let needed: &[&str] = match has_references(schema) {
            true => &["x-guidance", "$defs", "definitions"],
            false => &["x-guidance"],
        };
        let needed = needed.iter().copied();
        let values: Vec<_> = needed
            .filter_map(|key| Some((key, self.root.get(key)?)))
            .collect();
        let sizes = values.iter().map(|(_, value)| size_of(value));
        self.room.take(sizes.sum::<usize>() + size_of(schema))?;
        let mut part = match schema {
            Value::Object(fields) => fields.clone(),
            Value::Bool(true) => Map::new(),
            other => return Ok(Pattern::Json(other.clone())),
        };
        for (key, value) in values {
            part.entry(key).or_insert_with(|| value.clone());
        }
        Ok(Pattern::Json(Value::Object(part)))
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

/// At least as many patterns as [`separated`] adds to these members: it repeats each one behind every member that may be the first.
fn size_separated(members: &[(Pattern, bool)]) -> usize {
    let most = firsts(members).len();
    let sizes = members.iter().enumerate().map(|(index, (member, _))| {
        let times = most.min(index + 1);
        (times - 1) * size(member) + 4 * times
    });
    sizes.sum()
}

/// How many patterns a pattern consists of.
fn size(pattern: &Pattern) -> usize {
    let all = |patterns: &[Pattern]| patterns.iter().map(size).sum::<usize>();
    1 + match pattern {
        Pattern::OneOf(alternatives) => alternatives.iter().map(|one| all(one)).sum(),
        Pattern::Many(patterns) | Pattern::Times(patterns, ..) => all(patterns),
        Pattern::Json(schema) => size_of(schema),
        _ => 0,
    }
}

/// How many values a value of JSON consists of.
fn size_of(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(fields) => fields.values().map(size_of).sum(),
        _ => 0,
    }
}

fn has_references(schema: &Value) -> bool {
    match schema {
        Value::Array(items) => items.iter().any(has_references),
        Value::Object(fields) => {
            let is_reference = |key: &str| matches!(key, "$ref" | "$dynamicRef" | "$recursiveRef");
            let mut fields = fields.iter();
            fields.any(|(key, value)| is_reference(key) || has_references(value))
        }
        _ => false,
    }
}

/// The members that may come first: all up to the first required one.
fn firsts(members: &[(Pattern, bool)]) -> &[(Pattern, bool)] {
    let required = members.iter().position(|(_, is_required)| *is_required);
    &members[..required.map_or(members.len(), |at| at + 1)]
}

/// Members in order, with separators between those that are present.
fn separated(members: &[(Pattern, bool)], separator: &str) -> Vec<Pattern> {
    let separator = Pattern::Text(separator.to_owned());
    let more = |(member, is_required): &(Pattern, bool)| {
        optional(vec![separator.clone(), member.clone()], *is_required)
    };
    let mut alternatives: Vec<Vec<Pattern>> = (0..firsts(members).len())
        .map(|first| {
            let rest = members[first + 1..].iter().map(more);
            [members[first].0.clone()].into_iter().chain(rest).collect()
        })
        .collect();
    if !members.iter().any(|(_, is_required)| *is_required) {
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
        let alternatives = alternatives(pattern).into_iter();
        let whole: Vec<_> = alternatives.map(|one| whole(one, end)).collect();
        rules.all.push(whole.join("|"));
    }
    rules
}

/// A regular expression of all texts that contain a match of this one. `end` follows the text.
fn whole(regex: &str, end: &str) -> String {
    let any = "(?s:.*)";
    let (before, regex) = match regex.strip_prefix('^') {
        Some(rest) => ("", rest),
        None => (any, regex),
    };
    let is_escaped = |rest: &str| (rest.len() - rest.trim_end_matches('\\').len()) % 2 == 1;
    let (regex, after) = match regex.strip_suffix('$') {
        Some(rest) if !is_escaped(rest) => (rest, end),
        _ => (regex, any),
    };
    format!("{before}({regex}){after}")
}

/// The alternatives of a regular expression: what stands between the `|` outside of groups and character classes.
fn alternatives(regex: &str) -> Vec<&str> {
    let (mut groups, mut is_class, mut is_escaped) = (0_u32, false, false);
    let is_between = |character: char| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match character {
            '\\' => is_escaped = is_plain,
            _ if !is_plain => {}
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class => groups += 1,
            ')' if !is_class => groups = groups.saturating_sub(1),
            '|' => return !is_class && groups == 0,
            _ => {}
        }
        false
    };
    regex.split(is_between).collect()
}
