//! Grammars made of literal text, JSON and free text. Tool calls need them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_text;

/// A pattern that a part of an answer must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pattern {
    /// Exactly this text.
    Text(String),
    /// Exactly this token: for control tokens, which are no text.
    Token(u32),
    /// JSON that this schema validates.
    Json(#[serde(with = "json_text")] Value),
    /// Up to two characters, each a line feed or a space.
    Space,
    /// Any text that obeys these rules.
    Free(TextRules),
    /// Any text that obeys these rules, up to the first occurrence of this text, which is included.
    Until(TextRules, String),
    /// One of these sequences. An empty sequence stands for no text.
    OneOf(Vec<Vec<Pattern>>),
    /// This sequence, any number of times.
    Many(Vec<Pattern>),
    /// This sequence, at least and at most so many times. None: without a limit.
    Times(Vec<Pattern>, u32, Option<u32>),
}

/// Rules of a text: regular expressions that the whole text must match or must not match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextRules {
    /// The text matches each of these.
    pub all: Vec<String>,
    /// The text matches none of these.
    pub none: Vec<String>,
}

impl TextRules {
    /// Rules for a text that matches this.
    pub fn matching(regex: impl Into<String>) -> Self {
        Self {
            all: vec![regex.into()],
            ..Self::default()
        }
    }

    /// Adds the rule that the text does not match this.
    pub fn but_not(mut self, regex: impl Into<String>) -> Self {
        self.none.push(regex.into());
        self
    }

    /// Adds the rule that the text does not contain this.
    pub fn without(self, text: &str) -> Self {
        self.but_not(format!("(?s:.*){}(?s:.*)", regex_escaped(text)))
    }
}

/// Writes the grammar of a sequence of patterns in llguidance's variant of Lark. `schema` prepares each JSON Schema.
///
/// Free text is a single lexeme wherever possible, so that there is only one way to parse an answer.
pub fn lark(patterns: &[Pattern], schema: impl Fn(Value) -> Value) -> String {
    let mut writer = RuleWriter {
        schema,
        rules: Vec::new(),
    };
    let start = writer.sequence(patterns);
    let rules = (0..).zip(&writer.rules);
    let rules: String = rules.map(|(index, rule)| rule.line(index)).collect();
    format!("start: {start}\n{rules}")
}

struct RuleWriter<S> {
    schema: S,
    /// The rules so far. Equal rules are kept once.
    rules: Vec<Rule>,
}

#[derive(PartialEq)]
struct Rule {
    /// The beginning of the rule's name. Capitals: the lexer matches the rule.
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

impl<S: Fn(Value) -> Value> RuleWriter<S> {
    fn sequence(&mut self, patterns: &[Pattern]) -> String {
        let patterns: Vec<_> = patterns
            .iter()
            .map(|pattern| self.pattern(pattern))
            .collect();
        match patterns.is_empty() {
            true => "\"\"".to_owned(),
            false => patterns.join(" "),
        }
    }

    fn pattern(&mut self, pattern: &Pattern) -> String {
        match pattern {
            Pattern::Text(text) => quoted(text),
            Pattern::Token(token) => format!("<[{token}]>"),
            Pattern::Json(value) => format!("%json {}", (self.schema)(value.clone())),
            Pattern::Space => self.rule("SPACE", "", r"/[ \n]{0,2}/"),
            Pattern::Free(rules) => self.text(rules),
            Pattern::Until(rules, end) => {
                let text = self.text(rules);
                self.rule("until", &format!("[suffix={}]", quoted(end)), &text)
            }
            Pattern::OneOf(alternatives) => {
                let alternatives = alternatives.iter();
                let alternatives: Vec<_> = alternatives.map(|one| self.sequence(one)).collect();
                self.rule("one_of", "", &alternatives.join(" | "))
            }
            Pattern::Many(patterns) => {
                let body = self.sequence(patterns);
                self.rule("many", "", &body) + "*"
            }
            Pattern::Times(patterns, min, max) => {
                let body = self.sequence(patterns);
                let max = max.map(|max| max.to_string()).unwrap_or_default();
                self.rule("times", "", &body) + &format!("{{{min},{max}}}")
            }
        }
    }

    fn text(&mut self, rules: &TextRules) -> String {
        let all = rules.all.iter();
        let all = all.map(|regex| format!(" & /{}/", slashes_escaped(regex)));
        let none = rules.none.iter();
        let none = none.map(|regex| format!(" & ~/{}/", slashes_escaped(regex)));
        let body: String = all.chain(none).collect();
        self.rule("TEXT", "", &format!("/(?s:.*)/{body}"))
    }

    /// The name of a rule, which is added unless it is known.
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

/// Escapes the slashes of a regular expression, which would end it in Lark's `/…/`, unless they are escaped already.
fn slashes_escaped(regex: &str) -> String {
    let mut escaped = String::with_capacity(regex.len());
    let mut is_escaped = false;
    for character in regex.chars() {
        if character == '/' && !is_escaped {
            escaped.push('\\');
        }
        is_escaped = character == '\\' && !is_escaped;
        escaped.push(character);
    }
    escaped
}

/// Writes a string in Lark's notation: a JSON string in which DEL is escaped too.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\x7f', "\\u007f")
}

/// A regular expression that matches this text only. It writes every character as its code, because many characters
/// have a meaning in Lark's `/…/` or in regular expressions.
pub fn regex_escaped(text: &str) -> String {
    let escaped = text
        .chars()
        .map(|character| format!("\\u{{{:x}}}", u32::from(character)));
    escaped.collect()
}
