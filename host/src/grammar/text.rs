//! Grammars out of literal text, JSON and text of any kind, as calls of tools need them.

use serde_json::Value;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Exactly this text.
    Text(String),
    /// Exactly this token: for control tokens, which are no text.
    Token(u32),
    /// JSON that this schema validates.
    Json(Value),
    /// Up to two line feeds or spaces.
    Space,
    /// Any text.
    Any,
    /// Any text that ends where this text first does.
    Until(String),
    /// Any text that does not have this text in it.
    Without(String),
    /// Any text that begins with none of these texts.
    NotBeginning(Vec<String>),
    /// One of these sequences. An empty one is nothing.
    OneOf(Vec<Vec<Piece>>),
    /// This sequence, any number of times.
    Many(Vec<Piece>),
}

/// The grammar of a sequence of pieces, in llguidance's variant of Lark.
///
/// Text of any kind is one lexeme wherever that can be, so that there is one way only to read an answer.
pub fn lark(pieces: &[Piece], schema: impl Fn(Value) -> Value) -> String {
    let mut writer = Writer {
        schema,
        rules: Vec::new(),
    };
    let start = writer.sequence(pieces);
    let rules = (0..).zip(&writer.rules);
    let rules: String = rules.map(|(index, rule)| rule.line(index)).collect();
    format!("start: {start}\n{rules}")
}

struct Writer<S> {
    schema: S,
    /// Each is there once, however often it is needed.
    rules: Vec<Rule>,
}

#[derive(PartialEq)]
struct Rule {
    /// In capitals for what is read by the lexer.
    kind: &'static str,
    attribute: String,
    body: String,
}

impl Rule {
    fn name(&self, index: usize) -> String {
        format!("{}_{index}", self.kind)
    }

    fn line(&self, index: usize) -> String {
        format!("{}{}: {}\n", self.name(index), self.attribute, self.body)
    }
}

impl<S: Fn(Value) -> Value> Writer<S> {
    fn sequence(&mut self, pieces: &[Piece]) -> String {
        let pieces: Vec<_> = pieces.iter().map(|piece| self.piece(piece)).collect();
        match pieces.is_empty() {
            true => "\"\"".to_owned(),
            false => pieces.join(" "),
        }
    }

    fn piece(&mut self, piece: &Piece) -> String {
        const ANY: &str = "/(?s:.*)/";
        match piece {
            Piece::Text(text) => quoted(text),
            Piece::Token(token) => format!("<[{token}]>"),
            Piece::Json(value) => format!("%json {}", (self.schema)(value.clone())),
            Piece::Space => self.rule("SPACE", "", r"/[ \n]{0,2}/"),
            Piece::Any => self.rule("ANY", "", ANY),
            Piece::Until(end) => self.rule("until", &format!("[suffix={}]", quoted(end)), ANY),
            Piece::Without(text) => {
                let excluded = format!("(?s:.*){}(?s:.*)", regex_escaped(text));
                self.rule("WITHOUT", "", &format!("{ANY} & ~/{excluded}/"))
            }
            Piece::NotBeginning(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| regex_escaped(text)).collect();
                let excluded = format!("({})(?s:.*)", texts.join("|"));
                self.rule("NOT_BEGINNING", "", &format!("{ANY} & ~/{excluded}/"))
            }
            Piece::OneOf(alternatives) => {
                let alternatives = alternatives.iter();
                let alternatives: Vec<_> = alternatives.map(|one| self.sequence(one)).collect();
                self.rule("one_of", "", &alternatives.join(" | "))
            }
            Piece::Many(pieces) => {
                let body = self.sequence(pieces);
                self.rule("many", "", &body) + "*"
            }
        }
    }

    /// The name of a rule.
    fn rule(&mut self, kind: &'static str, attribute: &str, body: &str) -> String {
        let rule = Rule {
            kind,
            attribute: attribute.to_owned(),
            body: body.to_owned(),
        };
        let known = self.rules.iter().position(|other| *other == rule);
        let index = known.unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len() - 1
        });
        self.rules[index].name(index)
    }
}

/// Lark's strings are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Every character as its code, because those that Lark's `/…/` and regular expressions take as their own are many.
fn regex_escaped(text: &str) -> String {
    let escaped = text
        .chars()
        .map(|character| format!("\\u{{{:x}}}", u32::from(character)));
    escaped.collect()
}
