//! Turns a grammar in Lark into a regular expression, where that is possible.
//!
//! Custom tools need this. Most models write calls in JSON, where a character may be written as an escape. A regular expression
//! can be matched against the text behind the escapes, and a grammar of several lexemes cannot: the escaped lexemes begin alike,
//! and llguidance's lexer does not step back to where one of them ended.

mod lark;

use std::collections::HashMap;

use lark::{LarkRules, Part};

use super::text::regex_escaped;

/// Longest regular expression in bytes. Rules are copied to where they are used, so they may grow without bounds.
const MAX_BYTES: usize = 100_000;
/// The deepest nesting of rules and groups.
const MAX_DEPTH: usize = 200;

/// The regular expression of a grammar in Lark.
///
/// # Errors
/// A message: the grammar is not in Lark, a rule contains itself, or the grammar is too large or too deep.
pub fn regex_of_lark(text: &str) -> Result<String, String> {
    let rules = lark::parse(text)?;
    let mut writer = RegexWriter {
        rules: &rules,
        written: HashMap::new(),
        open: Vec::new(),
        depth: 0,
    };
    writer.rule("start")
}

struct RegexWriter<'a> {
    rules: &'a LarkRules,
    /// The regular expressions of rules.
    written: HashMap<&'a str, String>,
    /// The rules that are being written.
    open: Vec<&'a str>,
    /// The depth of the part that is being written.
    depth: usize,
}

impl<'a> RegexWriter<'a> {
    fn rule(&mut self, name: &str) -> Result<String, String> {
        if let Some(regex) = self.written.get(name) {
            return Ok(regex.clone());
        }
        let found = self.rules.get_key_value(name);
        let (name, part) = found.ok_or_else(|| format!("there is no rule '{name}'"))?;
        if self.open.contains(&name.as_str()) {
            return Err(format!(
                "the rule '{name}' contains itself: only grammars without recursion can be used here"
            ));
        }
        self.open.push(name);
        let regex = self.part(part)?;
        self.open.pop();
        if regex.len() > MAX_BYTES {
            return Err(format!(
                "the rule '{name}' is too large: make the grammar smaller"
            ));
        }
        self.written.insert(name, regex.clone());
        Ok(regex)
    }

    fn part(&mut self, part: &'a Part) -> Result<String, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!(
                "more than {MAX_DEPTH} rules and groups are within each other: write some of them out"
            ));
        }
        self.depth += 1;
        let regex = self.regex(part)?;
        self.depth -= 1;
        Ok(regex)
    }

    fn regex(&mut self, part: &'a Part) -> Result<String, String> {
        Ok(match part {
            Part::Text(text) => regex_escaped(text),
            Part::Regex(regex) => format!("(?:{regex})"),
            Part::Rule(name) => self.rule(name)?,
            Part::Sequence(parts) => self.parts(parts)?.concat(),
            Part::OneOf(parts) => format!("(?:{})", self.parts(parts)?.join("|")),
            Part::Repeat(part, min, max) => {
                let max = max.map(|max| max.to_string()).unwrap_or_default();
                format!("(?:{}){{{min},{max}}}", self.part(part)?)
            }
        })
    }

    fn parts(&mut self, parts: &'a [Part]) -> Result<Vec<String>, String> {
        let mut bytes = 0;
        let mut written = Vec::new();
        for part in parts {
            let regex = self.part(part)?;
            bytes += regex.len();
            if bytes > MAX_BYTES {
                return Err("it is too large: make the grammar smaller".to_owned());
            }
            written.push(regex);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[track_caller]
    fn check(lark: &str, good: &[&str], bad: &[&str]) {
        let regex = regex_of_lark(lark).unwrap();
        let regex = Regex::new(&format!("^(?:{regex})$")).unwrap();
        for text in good {
            assert!(regex.is_match(text), "{text:?} does not fit {regex}");
        }
        for text in bad {
            assert!(!regex.is_match(text), "{text:?} fits {regex}");
        }
    }

    #[test]
    fn a_grammar_of_patches_is_a_regular_expression() {
        let grammar = r#"
            start: begin_patch hunk+ end_patch
            begin_patch: "*** Begin Patch" LF
            end_patch: "*** End Patch" LF?

            // What happens to a file.
            hunk: add_hunk
                | delete_hunk  -> gone
                | "*** Update File: " filename LF change?
            add_hunk: "*** Add File: " filename LF add_line+
            delete_hunk: "*** Delete File: " filename LF
            filename: /(.+)/
            add_line: "+" /(.*)/ LF -> line
            change: (change_context | change_line)+
            change_context: ("@@" | "@@ " /(.+)/) LF
            change_line: ("+" | "-" | " ") /(.*)/ LF
            %import common.LF
        "#;
        let add = "*** Begin Patch\n*** Add File: a/b.txt\n+x \"y\"\n+\n*** End Patch";
        let update = "*** Begin Patch\n*** Update File: a\n@@ f()\n-x\n+y\n z\n*** Delete File: b\n*** End Patch\n";
        check(
            grammar,
            &[add, update],
            &[
                "",
                "*** Begin Patch\n*** End Patch",
                "*** Begin Patch\n*** Add File: a\nx\n*** End Patch",
            ],
        );
    }

    #[test]
    fn each_notation_is_read() {
        check(
            "start: \"a\"i /b[\\/]/x WORD\nWORD: (\"x\"..\"z\")+ # all",
            &["ab/xyz", "Ab/x"],
            &["ab/", "ab/w"],
        );
        check(
            "?start.2: [\"a\"] B~2 B~0..1\n!B: \"b\" | \"\\n\"",
            &["bb", "a\n\nb"],
            &["b", "bbbb"],
        );
        check(
            "start: INT{2,3}\n%import common (INT, CNAME)",
            &["12", "12345"],
            &["1", "a"],
        );
        check(
            "start: N \"\\u00e9\\t\"\n%import common.CNAME -> N",
            &["a1é\t"],
            &["1é\t"],
        );
        check("start: (\"a\"\n  | \"b\")*\n  | ()", &["", "abba"], &["c"]);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let long = (0..40).map(|n| format!("r{n}: r{} r{}\n", n + 1, n + 1));
        let long = format!("start: r0\n{}r40: \"a\"", long.collect::<String>());
        let deep = (0..10_000).map(|n| format!("r{n}: r{}\n", n + 1));
        let deep = format!("start: r0\n{}r10000: \"a\"", deep.collect::<String>());
        for (grammar, part) in [
            (
                "start: \"(\" start \")\" | \"x\"",
                "'start' contains itself",
            ),
            ("start: a\na: b\nb: a?", "'a' contains itself"),
            ("start: a", "no rule 'a'"),
            ("a: \"x\"", "no rule 'start'"),
            (
                "start: \"a\"\nstart: \"b\"",
                "line 2: the rule 'start' is there twice",
            ),
            ("start: \"a", "line 1"),
            ("start: /a", "line 1"),
            ("start: (\"a\"", "line 1"),
            ("start: \"a\" & \"b\"", "'&'"),
            ("start: \"a\"\n%ignore /x/", "line 2: %ignore"),
            ("start: X\n%import common.NOPE", "NOPE"),
            ("start \"a\"", "':'"),
            (&long, "too large"),
            (&deep, "more than 200 rules and groups"),
        ] {
            let why = regex_of_lark(grammar).unwrap_err();
            assert!(why.contains(part), "{grammar}: {why}");
        }
    }
}
