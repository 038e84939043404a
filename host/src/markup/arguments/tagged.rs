use serde_json::Value;

use super::read::{Read, escaped};
use crate::markup::{
    format::Tagged,
    json::{Cursor, Unread},
    search::begun,
    types::Types,
};

/// Reads arguments between tags. Strings are passed on piece by piece, other values when they are complete.
#[derive(Clone, Debug)]
pub struct TaggedReader {
    tags: Tagged,
    parameters: Value,
    state: TaggedState,
    /// Number of arguments that have begun.
    begun: usize,
}

#[derive(Clone, Copy, Debug)]
enum TaggedState {
    Between,
    /// Behind the tag before a value of these kinds.
    Opened(Types),
    /// Within a string.
    Text,
    /// At the beginning of a value that may be something other than a string.
    Value(Types),
}

/// The reader's next action.
enum NextPart {
    Go(TaggedState),
    Wait,
    End,
}

impl TaggedReader {
    pub fn new(tags: Tagged, parameters: Value) -> Self {
        Self {
            tags,
            parameters,
            state: TaggedState::Between,
            begun: 0,
        }
    }

    pub fn push(&mut self, text: &str) -> Read {
        let mut read = Read::default();
        loop {
            let rest = &text[read.length..];
            let next = match self.state {
                TaggedState::Between => self.between(rest, &mut read),
                TaggedState::Opened(types) => self.opened(rest, types, &mut read),
                TaggedState::Text => self.text(rest, &mut read),
                TaggedState::Value(types) => self.value(rest, types, &mut read),
            };
            match next {
                NextPart::Go(state) => self.state = state,
                NextPart::Wait => return read,
                NextPart::End => {
                    read.json += if self.begun == 0 { "{}" } else { "}" };
                    read.is_complete = true;
                    return read;
                }
            }
        }
    }

    fn between(&mut self, rest: &str, read: &mut Read) -> NextPart {
        let mut cursor = Cursor::new(rest);
        match self.key(&mut cursor) {
            Ok(key) => {
                let opening = if self.begun == 0 { "{" } else { ", " };
                read.json += &format!("{opening}{}: ", Value::from(key));
                read.length += cursor.at();
                self.begun += 1;
                let schema = &self.parameters["properties"][key];
                NextPart::Go(TaggedState::Opened(Types::of(schema, &self.parameters)))
            }
            Err(Unread::Incomplete) => NextPart::Wait,
            Err(Unread::Wrong) => NextPart::End,
        }
    }

    fn key<'a>(&self, cursor: &mut Cursor<'a>) -> Result<&'a str, Unread> {
        cursor.take_loosely(self.tags.before_key)?;
        // The first word marks the end of the key. Others may follow.
        let mut words = self.tags.after_key.split_whitespace();
        let key = cursor.take_until(words.next().unwrap_or_default())?;
        for word in words {
            cursor.take_loosely(word)?;
        }
        Ok(key.trim())
    }

    /// Begins a value. A line feed that belongs to the tag is not part of the value.
    fn opened(&self, rest: &str, types: Types, read: &mut Read) -> NextPart {
        if rest.is_empty() {
            return NextPart::Wait;
        }
        let has_line_feed = self.tags.after_key.ends_with('\n') && rest.starts_with('\n');
        read.length += usize::from(has_line_feed);
        match types == Types::STRING {
            true => {
                read.json.push('"');
                NextPart::Go(TaggedState::Text)
            }
            false => NextPart::Go(TaggedState::Value(types)),
        }
    }

    fn text(&self, rest: &str, read: &mut Read) -> NextPart {
        let close = self.tags.after_value.trim();
        if let Some(at) = rest.find(close) {
            read.json += &format!("{}\"", escaped(self.without_line_feed(&rest[..at])));
            read.length += at + close.len();
            return NextPart::Go(TaggedState::Between);
        }
        let sure = &rest[..rest.len() - begun(rest, close)];
        let sure = self.without_line_feed(sure);
        read.json += &escaped(sure);
        read.length += sure.len();
        NextPart::Wait
    }

    fn value(&self, rest: &str, types: Types, read: &mut Read) -> NextPart {
        let close = self.tags.after_value.trim();
        let Some(at) = rest.find(close) else {
            return NextPart::Wait;
        };
        read.json += &as_json(self.without_line_feed(&rest[..at]), types);
        read.length += at + close.len();
        NextPart::Go(TaggedState::Between)
    }

    fn without_line_feed<'a>(&self, text: &'a str) -> &'a str {
        match self.tags.after_value.starts_with('\n') {
            true => text.strip_suffix('\n').unwrap_or(text),
            false => text,
        }
    }
}

/// Converts a value of one of these kinds to JSON. The text may be JSON or one of Python's constants. Any other text
/// becomes a string.
fn as_json(text: &str, types: Types) -> String {
    let trimmed = text.trim();
    let json = match trimmed {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    };
    match serde_json::from_str::<Value>(json) {
        Ok(value) if types.has(Types::of_value(&value)) && !value.is_string() => json.to_owned(),
        // If the schema allows no strings, a quoted text is JSON, and its quotation marks are not part of the text.
        Ok(value) if !types.has(Types::STRING) && value.is_string() => json.to_owned(),
        _ => format!("\"{}\"", escaped(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(name: &str) -> Types {
        Types::of(&json!({"type": name}), &json!({}))
    }

    #[test]
    fn a_value_is_what_its_schema_allows() {
        let either = Types::of(&json!({"type": ["string", "null"]}), &json!({}));
        for (text, types, expected) in [
            ("5", kind("integer"), "5"),
            ("5", Types::ANY, "5"),
            ("5", either, "\"5\""),
            ("null", either, "null"),
            ("None", either, "null"),
            (" [1, \"a\"]\n", kind("array"), "[1, \"a\"]"),
            ("True", kind("boolean"), "true"),
            ("a \"b\"", Types::ANY, "\"a \\\"b\\\"\""),
            ("five", kind("integer"), "\"five\""),
        ] {
            assert_eq!(as_json(text, types), expected, "{text} {types:?}");
        }
    }
}
