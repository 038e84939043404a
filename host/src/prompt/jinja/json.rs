//! Writes JSON as Python's `json.dumps` does, which is what chat models saw in training.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Most bytes of a text. A template that asks for gigabytes fails, and the server does not.
pub const MAX_BYTES: usize = 64 << 20;

/// Layout of the JSON text, as the arguments of `json.dumps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLayout {
    /// Indentation of a line for each level, with each item on its own line. `None` puts everything on one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    /// Whether non-ASCII characters are written as `\uXXXX`.
    pub ensure_ascii: bool,
}

impl JsonLayout {
    /// Python's default separators for this indentation.
    pub fn new(indent: Option<String>) -> Self {
        let item_separator = if indent.is_some() { "," } else { ", " };
        Self {
            indent,
            item_separator: item_separator.to_owned(),
            key_separator: ": ".to_owned(),
            ensure_ascii: false,
        }
    }
}

/// The JSON text of a value.
///
/// # Errors
/// If it is longer than 64 MiB.
pub fn dumps(value: &Value, layout: &JsonLayout) -> serde_json::Result<String> {
    let mut bounded = BoundedWriter(Vec::new());
    let writer = PythonWriter {
        layout,
        depth: 0,
        has_items: false,
    };
    value.serialize(&mut Serializer::with_formatter(&mut bounded, writer))?;
    String::from_utf8(bounded.0).map_err(serde::ser::Error::custom)
}

/// A float as Python's `repr` writes it.
pub fn float(value: f64) -> String {
    if !value.is_finite() {
        return format!("{value}").to_lowercase();
    }
    // Rust also writes the shortest digits.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse() {
        Ok(exponent @ ..-4 | exponent @ 16..) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", i32::abs(exponent))
        }
        _ => format!("{value:?}"),
    }
}

struct BoundedWriter(Vec<u8>);

impl Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other("the JSON is longer than 64 MiB"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PythonWriter<'a> {
    layout: &'a JsonLayout,
    depth: usize,
    /// Whether the current container has items. Empty containers stay on one line.
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
        let Some(indent) = &self.layout.indent else {
            return Ok(());
        };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }
}

impl Formatter for PythonWriter<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.layout.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        fragment
            .encode_utf16()
            .try_for_each(|unit| match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte]),
                _ => write!(writer, "\\u{unit:04x}"),
            })
    }

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
    fn check(indent: Option<&str>, expected: &str) {
        let value = json!({"b": [1, 2.5, {}], "a": {"x": [], "y": null, "z": "é<'\"\n\u{7}"}});
        assert_eq!(
            dumps(&value, &JsonLayout::new(indent.map(str::to_owned))).unwrap(),
            expected
        );
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
        check(Some("  "), expected);
    }

    #[test]
    fn own_separators() {
        let layout = JsonLayout {
            item_separator: ",".to_owned(),
            key_separator: ":".to_owned(),
            ..JsonLayout::new(None)
        };
        assert_eq!(
            dumps(&json!({"a": [1, 2]}), &layout).unwrap(),
            r#"{"a":[1,2]}"#
        );
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        let wide = JsonLayout::new(Some(" ".repeat(MAX_BYTES)));
        assert!(dumps(&json!([1]), &wide).is_err());
    }

    #[test]
    fn floats_are_pythons() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e-7, "-1.5e-07"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }
}
