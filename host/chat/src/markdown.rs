//! A little Markdown in a terminal: headings and strong text are bold, code is in colour. The text comes in pieces that may end
//! anywhere.

use std::mem;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const CODE: &str = "\x1b[36m";

/// Puts colours into a text.
#[derive(Default)]
pub struct Markdown {
    /// A run of equal signs that may not be complete yet: backticks, asterisks, or hashes at the beginning of a line.
    signs: String,
    in_line: bool,
    is_heading: bool,
    is_strong: bool,
    is_code: bool,
    is_block: bool,
}

impl Markdown {
    /// The next piece, with colours.
    pub fn piece(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.take(c, &mut out);
        }
        out
    }

    /// The rest of the text, at its end. Ends all colours.
    pub fn end(&mut self) -> String {
        let mut out = String::new();
        self.take_signs(None, &mut out);
        *self = Self::default();
        out + RESET
    }

    fn take(&mut self, c: char, out: &mut String) {
        let continues = self.signs.is_empty() || self.signs.ends_with(c);
        let begins_heading = c == '#' && (!self.in_line || self.signs.ends_with('#'));
        if continues && (matches!(c, '`' | '*') || begins_heading) {
            self.signs.push(c);
            return;
        }
        self.take_signs(Some(c), out);
        if matches!(c, '`' | '*') {
            self.signs.push(c);
            return;
        }
        if c == '\n' && mem::take(&mut self.is_heading) {
            self.restyle(out);
        }
        out.push(c);
        self.in_line = c != '\n';
    }

    /// Interprets the run of signs that ends before this character.
    fn take_signs(&mut self, next: Option<char>, out: &mut String) {
        let signs = mem::take(&mut self.signs);
        let is_text = self.is_block || self.is_code;
        match signs.as_str() {
            "" => return,
            "`" if !self.is_block => self.is_code = !self.is_code,
            "**" if !is_text => self.is_strong = !self.is_strong,
            _ if signs.starts_with("```") && !self.in_line => {
                self.is_block = !self.is_block;
                self.restyle(out);
                out.push_str(&signs);
                self.in_line = true;
                return;
            }
            _ => {
                self.is_heading = signs.starts_with('#') && next == Some(' ') && !is_text;
                self.restyle_heading(out);
                out.push_str(&signs);
                self.in_line = true;
                return;
            }
        }
        self.in_line = true;
        self.restyle(out);
    }

    fn restyle_heading(&self, out: &mut String) {
        if self.is_heading {
            self.restyle(out);
        }
    }

    fn restyle(&self, out: &mut String) {
        out.push_str(RESET);
        if self.is_heading || self.is_strong {
            out.push_str(BOLD);
        }
        if self.is_code || self.is_block {
            out.push_str(CODE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with colours as letters, however it is cut into pieces.
    fn coloured(text: &str) -> String {
        let of = |size: usize| {
            let mut markdown = Markdown::default();
            let letters: Vec<char> = text.chars().collect();
            let pieces = letters.chunks(size).map(String::from_iter);
            let out: String = pieces.map(|piece| markdown.piece(&piece)).collect();
            let out = out + &markdown.end();
            out.replace(RESET, "<>")
                .replace(BOLD, "<b>")
                .replace(CODE, "<c>")
        };
        let whole = of(text.len());
        for size in 1..text.len() {
            assert_eq!(of(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn strong_text_code_and_headings_have_colours() {
        assert_eq!(coloured("a **b** `c`."), "a <><b>b<> <><c>c<>.<>");
        assert_eq!(coloured("# T\nx"), "<><b># T<>\nx<>");
        assert_eq!(
            coloured("```rust\nlet a = *b;\n```\nc"),
            "<><c>```rust\nlet a = *b;\n<>```\nc<>"
        );
    }

    #[test]
    fn other_signs_stay_as_they_are() {
        for text in ["2 * 3", "* a\n* b", "a #1", "#1", "a ``` b", "``x``", "***"] {
            assert_eq!(coloured(text), format!("{text}<>"));
        }
        assert_eq!(coloured("`a ** b`"), "<><c>a ** b<><>");
    }
}
