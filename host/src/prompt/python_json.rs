//! JSON as Python's `json.dumps` writes it: what chat models saw in training.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Layout of the JSON text, as the arguments of `json.dumps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonLayout {
    /// Spaces per level, each item on its own line; `None` puts all on one line.
    pub indent: Option<usize>,
    pub item_separator: String,
    pub key_separator: String,
}

impl JsonLayout {
    /// Python's default separators for this indentation.
    pub fn new(indent: Option<usize>) -> Self {
        let item_separator = if indent.is_some() { "," } else { ", " };
        Self {
            indent,
            item_separator: item_separator.to_owned(),
            key_separator: ": ".to_owned(),
        }
    }
}

/// The JSON text of a value, not ASCII-escaped.
pub(super) fn dumps(value: &Value, layout: &JsonLayout) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let writer = PythonWriter {
        layout,
        depth: 0,
        has_items: false,
    };
    value.serialize(&mut Serializer::with_formatter(&mut bytes, writer))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

struct PythonWriter<'a> {
    layout: &'a JsonLayout,
    depth: usize,
    /// Whether the container just ended held anything: empty ones stay on one line.
    has_items: bool,
}

impl PythonWriter<'_> {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_items = false;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.layout.item_separator.as_bytes())?;
        }
        self.new_line(writer)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_items {
            self.new_line(writer)?;
        }
        self.has_items = true;
        writer.write_all(bracket)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.layout.indent {
            Some(indent) => write!(writer, "\n{:width$}", "", width = indent * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonWriter<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_items = true;
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.layout.key_separator.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_items = true;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(indent: Option<usize>, expected: &str) {
        let value = json!({"b": [1, 2.5, {}], "a": {"x": [], "y": null, "z": "é<'\"\n\u{7}"}});
        assert_eq!(dumps(&value, &JsonLayout::new(indent)).unwrap(), expected);
    }

    // The expected texts are what CPython's json.dumps(value, ensure_ascii=False, indent=...) prints.
    #[test]
    fn one_line() {
        check(
            None,
            r#"{"b": [1, 2.5, {}], "a": {"x": [], "y": null, "z": "é<'\"\n\u0007"}}"#,
        );
    }

    #[test]
    fn indented() {
        let expected = "{\n  \"b\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"a\": {\n    \"x\": [],\n    \"y\": null,\n    \"z\": \"é<'\\\"\\n\\u0007\"\n  }\n}";
        check(Some(2), expected);
    }

    #[test]
    fn own_separators() {
        let layout = JsonLayout {
            item_separator: ",".to_owned(),
            key_separator: ":".to_owned(),
            indent: None,
        };
        assert_eq!(
            dumps(&json!({"a": [1, 2]}), &layout).unwrap(),
            r#"{"a":[1,2]}"#
        );
    }
}
