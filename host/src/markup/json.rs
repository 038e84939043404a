//! Reads JSON that may be incomplete, because it is still being written.

/// Why a text could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The text ends too early.
    Incomplete,
    /// The text is not what was expected.
    Wrong,
}

/// Finds the end of a JSON value. It only looks at brackets and quotes, so the text between them may be invalid.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValueEnd {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
}

impl ValueEnd {
    /// Takes the next piece of an object, list or string. If the value ends in this piece, returns how many bytes of
    /// the piece belong to the value.
    pub fn push(&mut self, piece: &str) -> Option<usize> {
        let end = piece.bytes().position(|byte| self.ends_with(byte));
        end.map(|last| last + 1)
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.is_escaped) {
            return false;
        }
        match (self.in_string, byte) {
            (true, b'\\') => self.is_escaped = true,
            (_, b'"') => {
                self.in_string = !self.in_string;
                return !self.in_string && self.depth == 0;
            }
            (false, b'{' | b'[') => self.depth += 1,
            (false, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// A position in a text that may be JSON.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The position at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Number of bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text from this position on.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next byte.
    pub fn peek(&self) -> Result<u8, Unread> {
        self.rest().bytes().next().ok_or(Unread::Incomplete)
    }

    /// Reads past white space.
    pub fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Reads past this text.
    pub fn take(&mut self, expected: &str) -> Result<(), Unread> {
        if self.rest().starts_with(expected) {
            self.at += expected.len();
            return Ok(());
        }
        match expected.starts_with(self.rest()) {
            true => Err(Unread::Incomplete),
            false => Err(Unread::Wrong),
        }
    }

    /// Reads past the words of this text. Before each word there may be any white space or none.
    pub fn take_loosely(&mut self, expected: &str) -> Result<(), Unread> {
        let mut cursor = *self;
        for word in expected.split_whitespace() {
            cursor.skip_space();
            cursor.take(word)?;
        }
        *self = cursor;
        Ok(())
    }

    /// Reads past this text, wherever it comes next. Returns the text before it.
    pub fn take_until(&mut self, end: &str) -> Result<&'a str, Unread> {
        let (before, _) = self.rest().split_once(end).ok_or(Unread::Incomplete)?;
        self.at += before.len() + end.len();
        Ok(before)
    }

    /// Reads characters while `is_like` returns true. Incomplete if the text has no other character behind them.
    pub fn take_while(&mut self, is_like: impl Fn(char) -> bool) -> Result<&'a str, Unread> {
        let rest = self.rest();
        let length = rest.find(|c| !is_like(c)).ok_or(Unread::Incomplete)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// Reads a string and decodes it.
    pub fn string(&mut self) -> Result<String, Unread> {
        if self.peek()? != b'"' {
            return Err(Unread::Wrong);
        }
        serde_json::from_str(self.value()?).map_err(|_| Unread::Wrong)
    }

    /// Reads any value. Returns it as written.
    pub fn value(&mut self) -> Result<&'a str, Unread> {
        let rest = self.rest();
        let length = match self.peek()? {
            b'{' | b'[' | b'"' => ValueEnd::default().push(rest),
            _ => rest.find(|c: char| c.is_whitespace() || ",]}".contains(c)),
        };
        let length = length.ok_or(Unread::Incomplete)?;
        self.at += length;
        Ok(&rest[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_its_last_bracket_or_quote() {
        for (text, value) in [
            (
                r#"{"a": "}\"]{", "b": [1, {}]} ]"#,
                r#"{"a": "}\"]{", "b": [1, {}]}"#,
            ),
            (r#""a\\" b"#, r#""a\\""#),
            ("[[],[]]]", "[[],[]]"),
            ("12.5, 3", "12.5"),
            ("true}", "true"),
        ] {
            assert_eq!(Cursor::new(text).value(), Ok(value));
            for cut in 1..value.len() {
                let cut = &value[..cut];
                assert_eq!(Cursor::new(cut).value(), Err(Unread::Incomplete), "{cut}");
            }
        }
    }

    #[test]
    fn a_text_that_may_yet_come_is_incomplete() {
        let take = |text: &str| Cursor::new(text).take("</x>");
        assert_eq!(take("</x> y"), Ok(()));
        assert_eq!(take("</"), Err(Unread::Incomplete));
        assert_eq!(take("<y"), Err(Unread::Wrong));
    }
}
