//! Translates grammars in GBNF, which clients of llama-server send, into llguidance's variant of Lark.
//!
//! GBNF is matched character by character. Lark is matched in lexemes, each as long as possible. A regular part becomes
//! one lexeme if both ways match the same texts. Otherwise it is written as the smaller lexemes that it consists of.

mod chars;
mod facts;
mod parser;
#[cfg(test)]
mod tests;

use chars::CharSet;
use facts::Analysis;
use parser::{RulePart, Rules};

use super::text::quoted;

/// Translates a grammar into Lark.
///
/// # Errors
/// A text that says what is wrong with the grammar.
pub fn lark(text: &str) -> Result<String, String> {
    let rules = parser::parse(text)?;
    let mut writer = GbnfWriter {
        analysis: Analysis::of(&rules)?,
        lines: Vec::new(),
        is_written: vec![[false; 2]; rules.parts.len()],
        pending: Vec::new(),
        rules: &rules,
    };
    let start = writer.rule(rules.root);
    while let Some((rule, is_lexeme)) = writer.pending.pop() {
        writer.define(rule, is_lexeme);
    }
    Ok(format!("start: {start}\n{}\n", writer.lines.join("\n")))
}

struct GbnfWriter<'a> {
    rules: &'a Rules,
    analysis: Analysis,
    lines: Vec<String>,
    /// For each rule, whether it was written as a rule, and whether it was written as a lexeme.
    is_written: Vec<[bool; 2]>,
    pending: Vec<(usize, bool)>,
}

impl GbnfWriter<'_> {
    /// Names a rule and has it written. The rule becomes a lexeme if it can be one.
    fn rule(&mut self, rule: usize) -> String {
        let follow = self.analysis.follow(rule);
        let is_lexeme = self.analysis.is_lexeme(&self.rules.parts[rule], follow);
        self.named(rule, is_lexeme)
    }

    fn named(&mut self, rule: usize, is_lexeme: bool) -> String {
        if !std::mem::replace(&mut self.is_written[rule][usize::from(is_lexeme)], true) {
            self.pending.push((rule, is_lexeme));
        }
        match is_lexeme {
            true => format!("R{rule}"),
            false => format!("r{rule}"),
        }
    }

    fn define(&mut self, rule: usize, is_lexeme: bool) {
        let part = &self.rules.parts[rule];
        let body = match is_lexeme {
            true => self.lexeme(part),
            false => self.parts(part, &self.analysis.follow(rule).clone()),
        };
        let name = self.named(rule, is_lexeme);
        self.lines.push(format!("{name}: {body}"));
    }

    /// Writes a part, as one lexeme if it can be one.
    fn part(&mut self, part: &RulePart, follow: &CharSet) -> String {
        match part {
            RulePart::Rule(rule) => self.rule(*rule),
            RulePart::Text(_) | RulePart::Chars(_) | RulePart::Token(_) => self.parts(part, follow),
            RulePart::Sequence(parts) if parts.is_empty() => sequence(Vec::new()),
            _ if self.analysis.is_lexeme(part, follow) => {
                let body = self.lexeme(part);
                self.helper("P", body)
            }
            _ => {
                let body = self.parts(part, follow);
                self.helper("p", body)
            }
        }
    }

    fn parts(&mut self, part: &RulePart, follow: &CharSet) -> String {
        match part {
            RulePart::Text(text) => quoted(text),
            RulePart::Chars(chars) => format!("/{}/", chars.regex()),
            RulePart::Token(token) => token.clone(),
            RulePart::Rule(rule) => self.rule(*rule),
            RulePart::Sequence(parts) => {
                let follows = self.analysis.follows(parts, follow);
                let parts = parts.iter().zip(&follows);
                let parts = parts.map(|(part, follow)| self.part(part, follow));
                sequence(parts.collect())
            }
            RulePart::OneOf(parts) => {
                let parts = parts.iter().map(|part| self.part(part, follow));
                parts.collect::<Vec<_>>().join(" | ")
            }
            RulePart::Repeat(part, min, max) => {
                let follow = self.analysis.within_repeat(part, *max, follow);
                repeated(self.part(part, &follow), *min, *max)
            }
        }
    }

    /// Writes a part that belongs to one lexeme.
    fn lexeme(&mut self, part: &RulePart) -> String {
        match part {
            RulePart::Sequence(parts) => {
                let parts = parts.iter().map(|part| self.in_lexeme(part));
                sequence(parts.collect())
            }
            RulePart::OneOf(parts) => {
                let parts = parts.iter().map(|part| self.in_lexeme(part));
                parts.collect::<Vec<_>>().join(" | ")
            }
            RulePart::Repeat(part, min, max) => repeated(self.in_lexeme(part), *min, *max),
            _ => self.in_lexeme(part),
        }
    }

    fn in_lexeme(&mut self, part: &RulePart) -> String {
        match part {
            RulePart::Rule(rule) => self.named(*rule, true),
            RulePart::Text(_) | RulePart::Chars(_) | RulePart::Token(_) => {
                self.parts(part, &CharSet::default())
            }
            _ => {
                let body = self.lexeme(part);
                self.helper("P", body)
            }
        }
    }

    /// Gives a part a name of its own, because Lark limits how groups can be nested.
    fn helper(&mut self, kind: &str, body: String) -> String {
        let name = format!("{kind}{}", self.lines.len());
        self.lines.push(format!("{name}: {body}"));
        name
    }
}

fn sequence(parts: Vec<String>) -> String {
    match parts.is_empty() {
        true => "\"\"".to_owned(),
        false => parts.join(" "),
    }
}

fn repeated(part: String, min: u32, max: Option<u32>) -> String {
    match (min, max) {
        (_, Some(0)) => "\"\"".to_owned(),
        (0, None) => format!("{part}*"),
        (1, None) => format!("{part}+"),
        (0, Some(1)) => format!("{part}?"),
        (min, None) => format!("{part}{{{min},}}"),
        (min, Some(max)) => format!("{part}{{{min},{max}}}"),
    }
}
