use crate::grammar::{Pattern, TextRules};

/// The control tokens that a model writes in calls and reasoning, by their texts.
#[derive(Clone, Debug, Default)]
pub struct Marks(Vec<(String, u32)>);

impl FromIterator<(String, u32)> for Marks {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(marks: I) -> Self {
        Self(
            marks
                .into_iter()
                .filter(|(text, _)| !text.is_empty())
                .collect(),
        )
    }
}

impl Marks {
    /// Splits a text as the model writes it: the texts of control tokens become tokens.
    pub fn split(&self, text: &str) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        let mut rest = text;
        while let Some((at, (mark, token))) = self.first_in(rest) {
            push_text(&mut patterns, &rest[..at]);
            patterns.push(Pattern::Token(*token));
            rest = &rest[at + mark.len()..];
        }
        push_text(&mut patterns, rest);
        patterns
    }

    /// Text that obeys these rules, followed by this end.
    pub fn until(&self, text: TextRules, end: &str) -> Vec<Pattern> {
        let mut end = self.split(end).into_iter();
        let first = match end.next() {
            Some(Pattern::Text(end)) => vec![Pattern::Until(text, end)],
            token => [Some(Pattern::Free(text)), token]
                .into_iter()
                .flatten()
                .collect(),
        };
        first.into_iter().chain(end).collect()
    }

    /// Patterns as the model writes them: the texts of control tokens become tokens.
    pub fn written(&self, patterns: Vec<Pattern>) -> Vec<Pattern> {
        let written = patterns.into_iter().flat_map(|pattern| match pattern {
            Pattern::Text(text) => self.split(&text),
            Pattern::Until(rules, end) => self.until(rules, &end),
            Pattern::OneOf(alternatives) => {
                let alternatives = alternatives.into_iter();
                vec![Pattern::OneOf(
                    alternatives.map(|one| self.written(one)).collect(),
                )]
            }
            Pattern::Many(patterns) => vec![Pattern::Many(self.written(patterns))],
            Pattern::Times(patterns, min, max) => {
                vec![Pattern::Times(self.written(patterns), min, max)]
            }
            other => vec![other],
        });
        written.collect()
    }

    /// The tokens whose texts occur in one of these texts.
    pub fn within<'a>(&self, texts: impl Iterator<Item = &'a str> + Clone) -> Vec<u32> {
        let marks = self.0.iter();
        let marks = marks.filter(|(mark, _)| texts.clone().any(|text| text.contains(mark)));
        marks.map(|(_, token)| *token).collect()
    }

    fn first_in(&self, text: &str) -> Option<(usize, &(String, u32))> {
        let found = self
            .0
            .iter()
            .filter_map(|mark| Some((text.find(&mark.0)?, mark)));
        found.min_by_key(|(at, (mark, _))| (*at, std::cmp::Reverse(mark.len())))
    }
}

fn push_text(patterns: &mut Vec<Pattern>, text: &str) {
    if !text.is_empty() {
        patterns.push(Pattern::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_at_control_tokens() {
        let marks = Marks::from_iter([("<a>".to_owned(), 1), ("<a>>".to_owned(), 2)]);
        let text = |text: &str| Pattern::Text(text.to_owned());
        assert_eq!(
            marks.split("x<a>y<a>>"),
            [text("x"), Pattern::Token(1), text("y"), Pattern::Token(2)]
        );
        assert_eq!(marks.split(""), []);
        let free = TextRules::default();
        assert_eq!(
            marks.until(free.clone(), "<a>\n"),
            [Pattern::Free(free.clone()), Pattern::Token(1), text("\n")]
        );
        assert_eq!(
            marks.until(free.clone(), "</b>"),
            [Pattern::Until(free.clone(), "</b>".to_owned())]
        );
        let whole = Pattern::OneOf(vec![vec![Pattern::Until(free.clone(), "<a>".to_owned())]]);
        let parts = vec![Pattern::Free(free), Pattern::Token(1)];
        assert_eq!(marks.written(vec![whole]), [Pattern::OneOf(vec![parts])]);
    }
}
