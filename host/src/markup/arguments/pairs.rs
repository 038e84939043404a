use serde_json::Value;

use super::read::{Read, escaped};
use crate::markup::{format::Pairs, search::begun};

/// Reads arguments in the notation of [`Pairs`], token by token, up to the bracket that closes the call.
#[derive(Clone, Debug)]
pub struct PairsReader {
    notation: Pairs,
    /// For each list or object that is open, the bracket that closes it in JSON.
    open: Vec<char>,
    /// The mark that ends the string that is being read.
    quote: Option<&'static str>,
    has_begun: bool,
    /// Whether a separator was read, but nothing after it.
    is_separated: bool,
    /// Whether a value comes next, because its key was read.
    is_value: bool,
}

impl PairsReader {
    pub fn new(notation: Pairs) -> Self {
        Self {
            notation,
            open: Vec::new(),
            quote: None,
            has_begun: false,
            is_separated: false,
            is_value: false,
        }
    }

    pub fn push(&mut self, text: &str) -> Read {
        let mut read = Read::default();
        while !read.is_complete {
            let rest = &text[read.length..];
            let length = match self.quote {
                Some(quote) => self.string(rest, quote, &mut read.json),
                None => self.token(rest, &mut read),
            };
            match length {
                Some(length) => read.length += length,
                None => break,
            }
        }
        read
    }

    /// Reads more of a string. Returns the number of bytes read, or None if more text has to come first.
    fn string(&mut self, rest: &str, quote: &str, json: &mut String) -> Option<usize> {
        // Longer marks do not occur in other text, so strings between them have no escapes.
        let has_escapes = quote.len() == 1;
        let end = rest.find(quote).unwrap_or(rest.len() - begun(rest, quote));
        let escape = rest.find('\\').filter(|_| has_escapes);
        let end = end.min(escape.unwrap_or(end));
        if end > 0 {
            *json += &escaped(&rest[..end]);
            return Some(end);
        }
        if rest.starts_with(quote) {
            json.push('"');
            self.quote = None;
            return Some(quote.len());
        }
        // Anything else here is the beginning of a mark.
        let is_escape = has_escapes && rest.starts_with('\\');
        let (text, length) = is_escape.then(|| escape_sequence(rest)).flatten()?;
        *json += &text;
        Some(length)
    }

    fn token(&mut self, rest: &str, read: &mut Read) -> Option<usize> {
        let first = rest.chars().next()?;
        if let Some(quote) = self.quote_at(rest)? {
            self.begin(&mut read.json);
            read.json.push('"');
            self.quote = Some(quote);
            return Some(quote.len());
        }
        match first {
            ',' => (self.is_separated, self.is_value) = (true, false),
            ':' | '=' => self.assign(&mut read.json),
            '{' => self.open(&mut read.json, '{', '}'),
            '[' | '(' if self.is_value || !self.open.is_empty() => {
                self.open(&mut read.json, '[', ']');
            }
            '}' | ']' | ')' => read.is_complete = self.close(&mut read.json),
            c if is_word(c) => return self.word(rest, &mut read.json),
            _ => {}
        }
        Some(first.len_utf8())
    }

    /// The mark of a string that begins here. `Some(None)`: no string begins here. None: more text has to come first.
    fn quote_at(&self, rest: &str) -> Option<Option<&'static str>> {
        let quotes = self.notation.quotes;
        let quote = quotes.iter().find(|quote| rest.starts_with(**quote));
        match quote {
            Some(quote) => Some(Some(quote)),
            None if quotes.iter().any(|quote| quote.starts_with(rest)) => None,
            None => Some(None),
        }
    }

    /// Writes what must stand before a key or a value: the first brace, or the separator that was read.
    fn begin(&mut self, json: &mut String) {
        if !std::mem::replace(&mut self.has_begun, true) {
            json.push('{');
        }
        if std::mem::take(&mut self.is_separated) {
            *json += ", ";
        }
    }

    fn assign(&mut self, json: &mut String) {
        if !self.is_value && self.open.last() != Some(&']') {
            *json += ": ";
            self.is_value = true;
        }
    }

    fn open(&mut self, json: &mut String, bracket: char, closing: char) {
        self.begin(json);
        json.push(bracket);
        self.open.push(closing);
        self.is_value = false;
    }

    /// Closes a list, an object or the arguments. Returns whether it closed the arguments, and so the call.
    fn close(&mut self, json: &mut String) -> bool {
        // A separator before a closing bracket is dropped.
        self.is_separated = false;
        self.begin(json);
        let inner = self.open.pop();
        json.push(inner.unwrap_or('}'));
        self.is_value = true;
        inner.is_none()
    }

    fn word(&mut self, rest: &str, json: &mut String) -> Option<usize> {
        let length = rest.find(|c| !is_word(c))?;
        let word = &rest[..length];
        self.begin(json);
        let is_key = !self.is_value && self.open.last() != Some(&']');
        *json += &match value(word).filter(|_| !is_key) {
            Some(value) => value,
            None => Value::from(word).to_string(),
        };
        Some(length)
    }
}

fn is_word(c: char) -> bool {
    !c.is_whitespace() && !",:={}[]()\"'<".contains(c)
}

/// Converts a word that is a constant or a number to JSON. None for other words.
fn value(word: &str) -> Option<String> {
    match word {
        "True" | "true" => Some("true".to_owned()),
        "False" | "false" => Some("false".to_owned()),
        "None" | "null" => Some("null".to_owned()),
        number if serde_json::from_str::<f64>(number).is_ok() => Some(number.to_owned()),
        number => {
            let number = number.replace('_', "").parse().ok();
            let number = number.and_then(serde_json::Number::from_f64);
            number.map(|number| number.to_string())
        }
    }
}

/// Converts an escape of Python or JSON to JSON. Returns the JSON, and the length of the escape in bytes. None if more
/// text has to come first.
fn escape_sequence(rest: &str) -> Option<(String, usize)> {
    let escaped_one = rest.chars().nth(1)?;
    let length = 1 + escaped_one.len_utf8();
    let digits = match escaped_one {
        'u' => 4,
        'x' => 2,
        'n' | 't' | 'r' | 'b' | 'f' | '"' | '\\' => return Some((rest[..2].to_owned(), 2)),
        '\'' | '/' => return Some((escaped_one.to_string(), 2)),
        '\n' => return Some((String::new(), 2)),
        _ => return Some((escaped(&rest[..length]), length)),
    };
    let code: String = rest.chars().skip(2).take(digits).collect();
    let is_code = code.chars().all(|c| c.is_ascii_hexdigit());
    match (is_code, code.len() == digits) {
        (true, true) => Some((format!("\\u{code:0>4}"), 2 + digits)),
        (true, false) => None,
        (false, _) => Some((escaped(&rest[..2]), 2)),
    }
}
