//! The text of a query and a document together, as cross-encoders read it.

use serde_json::Value;

use super::{ControlTokens, control_tokens::unused_sentinels};

/// A text with places for a query and a document.
#[derive(Clone, Debug)]
pub struct PairTemplate {
    parts: Vec<PairPart>,
    control: ControlTokens,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PairPart {
    Text(String),
    Query,
    Document,
}

const PLACES: [(&str, PairPart); 2] = [
    ("{query}", PairPart::Query),
    ("{document}", PairPart::Document),
];

impl PairTemplate {
    /// Parses a template with `{query}` and `{document}`. `control` has the texts that neither may write as tokens. None if one
    /// of the places is missing.
    pub fn parse(source: &str, control: ControlTokens) -> Option<Self> {
        let parts = parts(source);
        let has = |part| parts.contains(part);
        let is_whole = PLACES.iter().all(|(_, part)| has(part));
        is_whole.then_some(Self { parts, control })
    }

    /// The text of a pair, cut where a control token would otherwise form out of the query or the document. None if they use
    /// every character that could mark them.
    pub fn render(&self, query: &str, document: &str) -> Option<Vec<String>> {
        let mut texts = [query, document].map(Value::from);
        let own = self.parts.iter().filter_map(|part| match part {
            PairPart::Text(text) => Some(text.as_str()),
            PairPart::Query | PairPart::Document => None,
        });
        let [mark, ..] = unused_sentinels(&texts, own)?;
        texts
            .iter_mut()
            .for_each(|text| self.control.mark(text, mark));
        let [query, document] = &texts;
        let parts = self.parts.iter().map(|part| match part {
            PairPart::Text(text) => text.as_str(),
            PairPart::Query => query.as_str().unwrap_or_default(),
            PairPart::Document => document.as_str().unwrap_or_default(),
        });
        let marked: String = parts.collect();
        let split = self.control.split(&marked, mark);
        Some(split.pieces().map(str::to_owned).collect())
    }
}

fn parts(source: &str) -> Vec<PairPart> {
    let mut parts = Vec::new();
    let mut rest = source;
    let next = |rest: &str| {
        let places = PLACES.iter();
        let found = places.filter_map(|(name, part)| Some((rest.find(name)?, name.len(), part)));
        found.min_by_key(|&(at, ..)| at)
    };
    while let Some((at, len, part)) = next(rest) {
        parts.push(PairPart::Text(rest[..at].to_owned()));
        parts.push(part.clone());
        rest = &rest[at + len..];
    }
    parts.push(PairPart::Text(rest.to_owned()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str) -> Option<PairTemplate> {
        let control = ["[CLS]", "[SEP]"].map(str::to_owned);
        PairTemplate::parse(source, ControlTokens::new(control).unwrap())
    }

    fn rendered(query: &str, document: &str) -> Vec<String> {
        let pair = pair("[CLS]{query}[SEP]{document}[SEP]").unwrap();
        pair.render(query, document).unwrap()
    }

    #[test]
    fn texts_stand_in_their_places() {
        assert_eq!(rendered("who", "me"), ["[CLS]who[SEP]me[SEP]"]);
        assert_eq!(
            rendered("{document}", "me"),
            ["[CLS]{document}[SEP]me[SEP]"]
        );
        let other_order = pair("<{document}|{query}>").unwrap();
        assert_eq!(other_order.render("a", "b").unwrap(), ["<b|a>"]);
    }

    #[test]
    fn texts_form_no_control_tokens() {
        let cut = ["[CLS]a [", "SEP] b[SEP]c[SEP]"];
        assert_eq!(rendered("a [SEP] b", "c"), cut);
        let across = pair("{query}SEP]{document}").unwrap();
        assert_eq!(across.render("[", "d").unwrap(), ["[", "SEP]d"]);
    }

    #[test]
    fn both_places_are_needed() {
        for incomplete in ["{query}", "[CLS]{document}", ""] {
            assert!(pair(incomplete).is_none());
        }
    }
}
