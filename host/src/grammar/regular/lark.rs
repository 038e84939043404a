//! Parses the text of a grammar in Lark into rules. Rules and terminals are the same here.

use std::collections::BTreeMap;

use super::super::text::regex_escaped;

/// Most levels of nested groups.
const MAX_NESTING: u32 = 50;
/// Largest number in a repetition.
const MAX_COUNT: u32 = 10_000;

/// The rules by their names.
pub type LarkRules = BTreeMap<String, Part>;

/// A part of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Exactly this text.
    Text(String),
    /// Text that matches this regular expression.
    Regex(String),
    Rule(String),
    Sequence(Vec<Part>),
    OneOf(Vec<Part>),
    /// At least and at most so many repetitions. None: any number.
    Repeat(Box<Part>, u32, Option<u32>),
}

/// The terminals of Lark's library `common` that can be imported.
const COMMON: [(&str, &str); 16] = [
    ("DIGIT", "[0-9]"),
    ("HEXDIGIT", "[0-9A-Fa-f]"),
    ("INT", "[0-9]+"),
    ("SIGNED_INT", "[+-]?[0-9]+"),
    ("DECIMAL", r"[0-9]+\.[0-9]*|\.[0-9]+"),
    ("NUMBER", r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    (
        "SIGNED_NUMBER",
        r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?",
    ),
    ("LCASE_LETTER", "[a-z]"),
    ("UCASE_LETTER", "[A-Z]"),
    ("LETTER", "[A-Za-z]"),
    ("WORD", "[A-Za-z]+"),
    ("CNAME", "[A-Za-z_][A-Za-z0-9_]*"),
    ("WS_INLINE", r"[ \t]+"),
    ("WS", r"[ \t\f\r\n]+"),
    ("LF", r"\n"),
    ("NEWLINE", r"(\r?\n)+"),
];

/// Parses a whole grammar.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn parse(text: &str) -> Result<LarkRules, String> {
    let mut parser = LarkParser {
        text,
        at: 0,
        rules: LarkRules::new(),
    };
    let parsed = parser.statements();
    let line = 1 + text[..parser.at].matches('\n').count();
    parsed.map_err(|why| format!("line {line}: {why}"))?;
    Ok(parser.rules)
}

struct LarkParser<'a> {
    text: &'a str,
    /// Number of bytes read so far.
    at: usize,
    rules: LarkRules,
}

impl<'a> LarkParser<'a> {
    fn statements(&mut self) -> Result<(), String> {
        self.skip_blanks(true);
        while !self.rest().is_empty() {
            match self.take("%") {
                true => self.directive()?,
                false => self.rule()?,
            }
            self.skip_blanks(true);
        }
        Ok(())
    }

    fn rule(&mut self) -> Result<(), String> {
        let _ = self.take("?") || self.take("!");
        let name = self.name()?;
        if self.take(".") {
            self.number()?;
        }
        self.skip_blanks(false);
        self.expect(":")?;
        if self.rules.contains_key(&name) {
            return Err(format!("the rule '{name}' is there twice"));
        }
        let part = self.alternatives(0)?;
        if !self.rest().is_empty() && !self.rest().starts_with('\n') {
            return Err(self.unexpected());
        }
        self.rules.insert(name, part);
        Ok(())
    }

    fn directive(&mut self) -> Result<(), String> {
        let kind = self.name()?;
        if kind != "import" {
            return Err(format!(
                "%{kind} cannot be used here: write out what it stands for"
            ));
        }
        self.skip_blanks(false);
        self.expect("common")?;
        self.skip_blanks(false);
        if !self.take("(") {
            self.expect(".")?;
            let name = self.name()?;
            self.skip_blanks(false);
            let alias = self.take("->");
            self.skip_blanks(false);
            let alias = if alias { self.name()? } else { name.clone() };
            return self.import(&name, alias);
        }
        loop {
            self.skip_blanks(true);
            let name = self.name()?;
            self.import(&name, name.clone())?;
            self.skip_blanks(true);
            if self.take(")") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    fn import(&mut self, name: &str, alias: String) -> Result<(), String> {
        let known = COMMON.iter().find(|(known, _)| *known == name);
        let (_, regex) = known.ok_or_else(|| format!("there is no 'common.{name}' here"))?;
        self.rules.insert(alias, Part::Regex((*regex).to_owned()));
        Ok(())
    }

    fn alternatives(&mut self, depth: u32) -> Result<Part, String> {
        if depth > MAX_NESTING {
            return Err(format!(
                "more than {MAX_NESTING} groups are within each other"
            ));
        }
        let mut alternatives = vec![self.sequence(depth)?];
        loop {
            // Another alternative may stand on the next line.
            let end = self.at;
            self.skip_blanks(true);
            if !self.take("|") {
                self.at = if depth == 0 { end } else { self.at };
                break;
            }
            alternatives.push(self.sequence(depth)?);
        }
        Ok(match alternatives.len() {
            1 => alternatives.remove(0),
            _ => Part::OneOf(alternatives),
        })
    }

    fn sequence(&mut self, depth: u32) -> Result<Part, String> {
        let mut parts = Vec::new();
        loop {
            self.skip_blanks(depth > 0);
            if self.take("->") {
                self.skip_blanks(false);
                self.name()?;
                self.skip_blanks(depth > 0);
                return Ok(Part::Sequence(parts));
            }
            match self.rest().chars().next() {
                None | Some('\n' | '|' | ')' | ']') => return Ok(Part::Sequence(parts)),
                Some(_) => parts.push(self.repeated(depth)?),
            }
        }
    }

    /// A part with the signs of repetition behind it.
    fn repeated(&mut self, depth: u32) -> Result<Part, String> {
        let part = self.atom(depth)?;
        let repeat = |min, max| Ok(Part::Repeat(Box::new(part.clone()), min, max));
        if self.take("?") {
            return repeat(0, Some(1));
        }
        if self.take("*") {
            return repeat(0, None);
        }
        if self.take("+") {
            return repeat(1, None);
        }
        if self.take("~") {
            self.skip_blanks(false);
            let min = self.number()?;
            let max = if self.take("..") { self.number()? } else { min };
            return repeat(min, Some(max));
        }
        if self.take("{") {
            let min = self.number()?;
            let has_max = self.take(",");
            let max = match self.take("}") {
                true => (!has_max).then_some(min),
                false => Some(self.number()?),
            };
            if has_max && max.is_some() {
                self.expect("}")?;
            }
            return repeat(min, max);
        }
        Ok(part)
    }

    fn atom(&mut self, depth: u32) -> Result<Part, String> {
        if self.take("\"") {
            return self.text_or_range();
        }
        if self.take("/") {
            return self.regex();
        }
        if self.take("(") {
            let part = self.alternatives(depth + 1)?;
            self.expect(")")?;
            return Ok(part);
        }
        if self.take("[") {
            let part = self.alternatives(depth + 1)?;
            self.expect("]")?;
            return Ok(Part::Repeat(Box::new(part), 0, Some(1)));
        }
        self.name().map(Part::Rule)
    }

    /// Reads a text in quotation marks behind its first mark, or a range of characters that begins with the text.
    fn text_or_range(&mut self) -> Result<Part, String> {
        let first = self.quoted()?;
        if self.take("..") {
            self.expect("\"")?;
            let last = self.quoted()?;
            let code = |text: &str| match text.chars().collect::<Vec<_>>()[..] {
                [character] => Ok(format!("\\u{{{:x}}}", u32::from(character))),
                _ => Err("a range needs one character at each end".to_owned()),
            };
            return Ok(Part::Regex(format!("[{}-{}]", code(&first)?, code(&last)?)));
        }
        Ok(match self.take("i") {
            true => Part::Regex(format!("(?i:{})", regex_escaped(&first))),
            false => Part::Text(first),
        })
    }

    fn quoted(&mut self) -> Result<String, String> {
        let inner = self.until('"').ok_or("a quotation mark is missing")?;
        serde_json::from_str(&format!("\"{inner}\""))
            .map_err(|_| format!("\"{inner}\" has an escape that is not known"))
    }

    fn regex(&mut self) -> Result<Part, String> {
        let regex = self
            .until('/')
            .ok_or("the '/' behind a regular expression is missing")?;
        let rest = self.rest();
        let flags = &rest[..rest.len() - rest.trim_start_matches(['i', 'm', 's', 'u', 'x']).len()];
        self.at += flags.len();
        // Regular expressions match Unicode text without 'u' too.
        let flags = flags.replace('u', "");
        Ok(Part::Regex(match flags.is_empty() {
            true => regex.to_owned(),
            false => format!("(?{flags}:{regex})"),
        }))
    }

    /// Reads up to the first `end` that is not escaped, and returns the text before it. None if there is none on this
    /// line.
    fn until(&mut self, end: char) -> Option<&'a str> {
        let rest = self.rest();
        let mut is_escaped = false;
        for (at, character) in rest.char_indices() {
            if character == '\n' {
                return None;
            }
            if character == end && !is_escaped {
                self.at += at + end.len_utf8();
                return Some(&rest[..at]);
            }
            is_escaped = character == '\\' && !is_escaped;
        }
        None
    }

    fn name(&mut self) -> Result<String, String> {
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = self.rest();
        let length = rest.len() - rest.trim_start_matches(is_in_name).len();
        if length == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn number(&mut self) -> Result<u32, String> {
        let rest = self.rest();
        let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        self.at += length;
        let number = rest[..length].parse().ok();
        number
            .filter(|&number| number <= MAX_COUNT)
            .ok_or_else(|| format!("a number up to {MAX_COUNT} is missing"))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, text: &str) -> bool {
        let is_there = self.rest().starts_with(text);
        self.at += if is_there { text.len() } else { 0 };
        is_there
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        match self.take(text) {
            true => Ok(()),
            false => Err(format!("'{text}' is missing: {}", self.unexpected())),
        }
    }

    fn unexpected(&self) -> String {
        match self.rest().chars().next() {
            Some('\n') => "the line ends too early".to_owned(),
            Some(character) => format!("'{character}' is not expected"),
            None => "the grammar ends too early".to_owned(),
        }
    }

    /// Skips blanks and comments, and with `with_lines` also ends of lines.
    fn skip_blanks(&mut self, with_lines: bool) {
        loop {
            let rest = self.rest();
            let is_blank = |c: char| c == ' ' || c == '\t' || c == '\r' || with_lines && c == '\n';
            let mut left = rest.trim_start_matches(is_blank);
            if left.starts_with("//") || left.starts_with('#') {
                left = &left[left.find('\n').unwrap_or(left.len())..];
            }
            if left.len() == rest.len() {
                return;
            }
            self.at = self.text.len() - left.len();
        }
    }
}
