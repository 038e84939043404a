//! Rewrites a template's source so that minijinja reads it as Jinja2 does.

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::filters::PERCENT;

/// The syntax that Hugging Face transformers sets.
pub fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

/// Rewrites a source so that minijinja reads it as Jinja2 does.
pub fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = without_generation_tags(&source);
    with_python_operators(&source).unwrap_or(source)
}

/// Turns `{% generation %}` blocks, which only mark the assistant's text for training, into blocks without effect.
fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, rest) = part.split_at(part.find("%}").unwrap_or(part.len()));
        let word = tag.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '+'));
        let tag = match word {
            "generation" | "endgeneration" => tag.replace("generation", "with"),
            _ => tag.to_owned(),
        };
        result.extend(["{%", &tag, rest]);
    }
    result
}

/// Rewrites `a % b` to `(a)|PERCENT(b)`, because Python's `%` also formats text, and removes the sign of `+a`. None if the
/// source is not Jinja.
fn with_python_operators(source: &str) -> Option<String> {
    let mut rewriter = Rewriter::default();
    for token in tokenize(source, false, syntax().ok()?) {
        let (token, span) = token.ok()?;
        rewriter.take(&token, span);
    }
    Some(apply(source, rewriter.edits))
}

/// A replacement of a part of the source.
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    // The sort is stable, so edits at one position keep their order.
    edits.sort_by_key(|edit| edit.from);
    let mut result = String::with_capacity(source.len() + edits.len() * PERCENT.len());
    let mut done = 0;
    for edit in edits {
        result.push_str(&source[done..edit.from]);
        result.push_str(&edit.text);
        done = edit.to;
    }
    result.push_str(&source[done..]);
    result
}

/// State between two brackets, or between the ends of a tag.
#[derive(Default)]
struct Nesting {
    /// The position at which the current product begins.
    product: Option<usize>,
    /// Whether the last token ended a value, so that an operator follows.
    follows_value: bool,
    /// Whether the next name is an attribute, a filter or a test, and so not a keyword.
    names_next: bool,
    /// Whether the current value is the right side of a `%`.
    is_open: bool,
}

#[derive(Default)]
struct Rewriter {
    levels: Vec<Nesting>,
    edits: Vec<Edit>,
    /// The position at which the last token ended.
    end: usize,
}

/// Keywords that end a product. `is` is not one of them: tests bind as tightly as filters.
const WORDS: [&str; 15] = [
    "and",
    "or",
    "not",
    "in",
    "if",
    "else",
    "elif",
    "for",
    "set",
    "recursive",
    "with",
    "call",
    "filter",
    "include",
    "ignore",
];

impl Rewriter {
    fn take(&mut self, token: &Token<'_>, span: Span) {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => self.levels = vec![Nesting::default()],
            Token::VariableEnd | Token::BlockEnd => {
                self.close();
                self.levels.clear();
            }
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                self.value(start);
                self.levels.push(Nesting::default());
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.close();
                self.levels.pop();
                self.after_value();
            }
            Token::Mod => self.percent(start, end),
            Token::Mul | Token::Div | Token::FloorDiv => {
                self.close();
                self.after_operator();
            }
            // A power binds more tightly.
            Token::Pow => self.after_operator(),
            Token::Dot | Token::Pipe => self.before_name(),
            Token::Minus if !self.follows_value() => self.value(start),
            Token::Plus if !self.follows_value() => self.edit(start, end, String::new()),
            Token::Ident(word) => self.word(word, start),
            Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_) => {
                self.value(start);
                self.after_value();
            }
            _ => self.end_product(),
        }
        self.end = end;
    }

    fn word(&mut self, word: &str, start: usize) {
        let is_name = self.levels.last().is_some_and(|level| level.names_next);
        if !is_name && WORDS.contains(&word) {
            return self.end_product();
        }
        if !is_name && word == "is" {
            return self.before_name();
        }
        if is_name && word == "not" {
            return;
        }
        self.value(start);
        self.after_value();
    }

    fn percent(&mut self, start: usize, end: usize) {
        self.close();
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        let Some(product) = level.product else { return };
        level.is_open = true;
        level.follows_value = false;
        self.edit(product, product, "(".to_owned());
        self.edit(start, end, format!(")|{PERCENT}("));
    }

    /// Ends the right side of a `%` before the next token.
    fn close(&mut self) {
        if self
            .levels
            .last_mut()
            .is_some_and(|level| std::mem::take(&mut level.is_open))
        {
            self.edit(self.end, self.end, ")".to_owned());
        }
    }

    fn end_product(&mut self) {
        self.close();
        if let Some(level) = self.levels.last_mut() {
            *level = Nesting::default();
        }
    }

    fn value(&mut self, start: usize) {
        if let Some(level) = self.levels.last_mut() {
            level.product.get_or_insert(start);
            level.names_next = false;
        }
    }

    fn after_value(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.follows_value = true;
        }
    }

    fn after_operator(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.follows_value = false;
        }
    }

    fn before_name(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.names_next = true;
        }
    }

    fn follows_value(&self) -> bool {
        self.levels.last().is_some_and(|level| level.follows_value)
    }

    fn edit(&mut self, from: usize, to: usize, text: String) {
        self.edits.push(Edit { from, to, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_lose_only_their_effect() {
        let source =
            "{%- generation -%}a{% endgeneration %}{% if generation %}{{ 'generation' }}{%";
        let expected = "{%- with -%}a{% endwith %}{% if generation %}{{ 'generation' }}{%";
        assert_eq!(without_generation_tags(source), expected);
    }

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let rewritten = with_python_operators(source).unwrap_or_else(|| source.to_owned());
        assert_eq!(rewritten.replace(PERCENT, "P"), expected);
    }

    #[test]
    fn the_operator_becomes_a_filter_of_the_whole_product() {
        check("{{ a % b }}", "{{ (a )|P( b) }}");
        check(
            "{{ -a.b[1] * 2 % (c % d) + 1 }}",
            "{{ (-a.b[1] * 2 )|P( ((c )|P( d))) + 1 }}",
        );
        check("{{ a % b % c }}", "{{ ((a )|P( b) )|P( c) }}");
        check(
            "{% if not x % 2 == 1 and y %}",
            "{% if not (x )|P( 2) == 1 and y %}",
        );
        check("{{ +a + +b }}", "{{ a + b }}");
        check(
            "{{ '%s' % f(x)|upper ~ '!' }}",
            "{{ ('%s' )|P( f(x)|upper) ~ '!' }}",
        );
        check("a % b {{ '%' }}{# c % d #}", "a % b {{ '%' }}{# c % d #}");
    }
}
