//! Parses the text of a GBNF grammar into rules.

use std::{collections::HashMap, iter::Peekable, str::Chars};

use super::chars::CharSet;

/// Most levels of nested groups.
const MAX_NESTING: u32 = 50;
/// Most parts of all rules together, ranges of character classes included.
const MAX_PARTS: usize = 10_000;
/// Most repetition signs (`*`, `+`, `?`, `{…}`) behind one part.
const MAX_REPETITIONS: u32 = 4;
/// Largest number in a repetition.
const MAX_COUNT: u32 = 1_000_000;

/// A part of a rule. It refers to rules by number.
#[derive(Clone, Debug, PartialEq)]
pub enum RulePart {
    Text(String),
    /// One of these characters.
    Chars(CharSet),
    /// A token of the model, in Lark's notation.
    Token(String),
    Rule(usize),
    Sequence(Vec<RulePart>),
    OneOf(Vec<RulePart>),
    /// At least and at most so many repetitions. None: any number.
    Repeat(Box<RulePart>, u32, Option<u32>),
}

/// The rules, in the order in which their names first occur.
#[derive(Debug)]
pub struct Rules {
    pub parts: Vec<RulePart>,
    pub root: usize,
}

/// Parses a whole grammar.
///
/// # Errors
/// A text that says what is wrong. For an error of syntax it begins with the line.
pub fn parse(text: &str) -> Result<Rules, String> {
    let mut parser = GbnfParser {
        rest: text.chars().peekable(),
        line: 1,
        names: HashMap::new(),
        rules: Vec::new(),
        parts: 0,
    };
    let parsed = parser.rules();
    parsed.map_err(|why| format!("line {}: {why}", parser.line))?;
    parser.finish()
}

struct GbnfParser<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    names: HashMap<String, usize>,
    /// The rules by number. None: the rule is used, and not defined so far.
    rules: Vec<Option<RulePart>>,
    parts: usize,
}

impl GbnfParser<'_> {
    fn rules(&mut self) -> Result<(), String> {
        self.skip_blanks(true);
        while self.rest.peek().is_some() {
            let name = self.name();
            if name.is_empty() {
                return Err("a rule must begin with its name".to_owned());
            }
            let rule = self.number(&name);
            self.skip_blanks(false);
            for expected in "::=".chars() {
                self.expect(expected)?;
            }
            self.skip_blanks(true);
            let part = self.alternatives(0)?;
            if self.rules[rule].replace(part).is_some() {
                return Err(format!("the rule '{name}' is there twice"));
            }
            if !matches!(self.rest.peek(), None | Some('\n')) {
                return Err(self.unexpected("the end of the rule"));
            }
            self.skip_blanks(true);
        }
        Ok(())
    }

    fn finish(self) -> Result<Rules, String> {
        let undefined = self
            .names
            .iter()
            .filter(|&(_, &rule)| self.rules[rule].is_none());
        if let Some(name) = undefined.map(|(name, _)| name).min() {
            return Err(format!("the rule '{name}' is used, but there is none"));
        }
        let root = self.names.get("root");
        let root = *root.ok_or("there must be a rule 'root'")?;
        // Every rule is defined here.
        let parts = self.rules.into_iter().flatten().collect();
        Ok(Rules { parts, root })
    }

    fn alternatives(&mut self, depth: u32) -> Result<RulePart, String> {
        if depth > MAX_NESTING {
            return Err(format!(
                "more than {MAX_NESTING} groups are within each other"
            ));
        }
        let mut alternatives = vec![self.sequence(depth)?];
        while self.rest.next_if_eq(&'|').is_some() {
            self.skip_blanks(true);
            alternatives.push(self.sequence(depth)?);
        }
        Ok(match alternatives.len() {
            1 => alternatives.remove(0),
            _ => RulePart::OneOf(alternatives),
        })
    }

    fn sequence(&mut self, depth: u32) -> Result<RulePart, String> {
        let mut sequence = Vec::new();
        while let Some(&next) = self.rest.peek() {
            let part = match next {
                '"' => self.text()?,
                '[' => self.class()?,
                '<' => self.token()?,
                '.' => {
                    self.rest.next();
                    RulePart::Chars(CharSet::all())
                }
                '(' => self.group(depth)?,
                '!' => return Err("tokens that are excluded (!<…>) are not supported".to_owned()),
                next if is_name(next) => {
                    let name = self.name();
                    RulePart::Rule(self.number(&name))
                }
                _ => break,
            };
            self.count_part()?;
            let part = self.repeated(part, depth)?;
            sequence.push(part);
        }
        Ok(match sequence.len() {
            1 => sequence.remove(0),
            _ => RulePart::Sequence(sequence),
        })
    }

    fn count_part(&mut self) -> Result<(), String> {
        self.parts += 1;
        match self.parts > MAX_PARTS {
            true => Err(format!("the grammar has more than {MAX_PARTS} parts")),
            false => Ok(()),
        }
    }

    fn group(&mut self, depth: u32) -> Result<RulePart, String> {
        self.rest.next();
        self.skip_blanks(true);
        let part = self.alternatives(depth + 1)?;
        self.expect(')')?;
        Ok(part)
    }

    /// Reads any repetition signs behind a part.
    fn repeated(&mut self, mut part: RulePart, depth: u32) -> Result<RulePart, String> {
        for _ in 0..=MAX_REPETITIONS {
            self.skip_blanks(depth > 0);
            let Some(sign) = self.rest.next_if(|c| "*+?{".contains(*c)) else {
                return Ok(part);
            };
            let (min, max) = match sign {
                '*' => (0, None),
                '+' => (1, None),
                '?' => (0, Some(1)),
                _ => self.counts()?,
            };
            part = RulePart::Repeat(Box::new(part), min, max);
        }
        Err("too many repetitions of repetitions".to_owned())
    }

    /// Reads the rest of `{3}`, `{3,}`, `{,3}` or `{3,4}`, from behind the opening brace.
    fn counts(&mut self) -> Result<(u32, Option<u32>), String> {
        let min = self.count()?;
        let max = match self.rest.next_if_eq(&',') {
            Some(_) => self.count()?,
            None => min,
        };
        self.expect('}')?;
        if min.is_none() && max.is_none() {
            return Err("{} must say how often, such as {2} or {1,3}".to_owned());
        }
        match (min.unwrap_or(0), max) {
            (min, Some(max)) if min > max => Err(format!("{{{min},{max}}} is no range")),
            range => Ok(range),
        }
    }

    fn count(&mut self) -> Result<Option<u32>, String> {
        self.skip_blanks(false);
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        self.skip_blanks(false);
        match digits.is_empty() {
            true => Ok(None),
            false => {
                let count = digits.parse().ok().filter(|count| *count <= MAX_COUNT);
                count
                    .map(Some)
                    .ok_or_else(|| format!("{digits} times is too often"))
            }
        }
    }

    fn text(&mut self) -> Result<RulePart, String> {
        self.rest.next();
        let mut text = String::new();
        while self.rest.next_if_eq(&'"').is_none() {
            text.push(self.character()?);
        }
        Ok(RulePart::Text(text))
    }

    fn class(&mut self) -> Result<RulePart, String> {
        self.rest.next();
        let is_negated = self.rest.next_if_eq(&'^').is_some();
        let mut chars = CharSet::default();
        while self.rest.next_if_eq(&']').is_none() {
            self.count_part()?;
            let first = self.character()?;
            let mut last = first;
            if self.rest.next_if_eq(&'-').is_some() {
                if self.rest.peek() == Some(&']') {
                    chars.insert('-', '-');
                } else {
                    last = self.character()?;
                }
            }
            if first > last {
                return Err(format!("[{first}-{last}] is no range"));
            }
            chars.insert(first, last);
        }
        let chars = if is_negated {
            chars.complement()
        } else {
            chars
        };
        match chars.is_empty() {
            true => Err("a class has no character in it".to_owned()),
            false => Ok(RulePart::Chars(chars)),
        }
    }

    /// Reads `<[12]>` or `<name>`. Lark has the same notation.
    fn token(&mut self) -> Result<RulePart, String> {
        let mut token = String::new();
        loop {
            match self.rest.next() {
                Some('>') if token.len() > 1 => return Ok(RulePart::Token(token + ">")),
                Some(c) if !c.is_whitespace() => token.push(c),
                _ => return Err("a token must be written like <[12]> or <name>".to_owned()),
            }
        }
    }

    /// Reads the next character of a text or class.
    fn character(&mut self) -> Result<char, String> {
        let digits = match self.rest.next() {
            None => return Err("a text or a class has no end".to_owned()),
            Some('\n') => {
                self.line += 1;
                return Ok('\n');
            }
            Some('\\') => match self.rest.next() {
                Some('n') => return Ok('\n'),
                Some('r') => return Ok('\r'),
                Some('t') => return Ok('\t'),
                Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(c),
                Some('x') => 2,
                Some('u') => 4,
                Some('U') => 8,
                Some(c) => return Err(format!("'\\{c}' stands for nothing")),
                None => return Err("a text or a class has no end".to_owned()),
            },
            Some(c) => return Ok(c),
        };
        let mut code = String::new();
        while code.len() < digits
            && let Some(digit) = self.rest.next_if(char::is_ascii_hexdigit)
        {
            code.push(digit);
        }
        let value = u32::from_str_radix(&code, 16)
            .ok()
            .filter(|_| code.len() == digits);
        let character = value.and_then(char::from_u32);
        character.ok_or_else(|| format!("'{code}' is not the code of a character"))
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|&c| is_name(c)) {
            name.push(c);
        }
        name
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(&known) = self.names.get(name) {
            return known;
        }
        self.rules.push(None);
        self.names.insert(name.to_owned(), self.rules.len() - 1);
        self.rules.len() - 1
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        match self.rest.next_if_eq(&expected) {
            Some(_) => Ok(()),
            None => Err(self.unexpected(&format!("'{expected}'"))),
        }
    }

    fn unexpected(&mut self, expected: &str) -> String {
        match self.rest.peek() {
            Some(found) => format!("{expected} is expected before '{}'", found.escape_debug()),
            None => format!("{expected} is expected"),
        }
    }

    /// Skips blanks and comments, and with `with_lines` also ends of lines.
    fn skip_blanks(&mut self, with_lines: bool) {
        while let Some(&next) = self.rest.peek() {
            match next {
                '#' => while self.rest.next_if(|&c| c != '\n').is_some() {},
                '\n' if with_lines => {
                    self.line += 1;
                    self.rest.next();
                }
                ' ' | '\t' | '\r' => {
                    self.rest.next();
                }
                _ => return,
            }
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
