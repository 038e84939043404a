//! Keeps control tokens out of user text.
//!
//! A chat template and its users share one string, so `<|im_end|>` typed by a user would be read as a control token. Every
//! user string is therefore *marked* with a sentinel character before rendering, and the rendered text is *split*
//! afterwards:
//!
//! * A mark goes strictly inside each control-token text of a user string: `<` S `|im_end|>`.
//! * A mark goes to an edge of a user string where text that the template puts beside it could complete a control token:
//!   after a trailing `<|im_`, before a leading `end|>`.
//! * After rendering, the sentinels are removed. The text is cut where one stood strictly inside a control token's text.
//!   The other marks leave no trace, so they change no tokens.
//!
//! Why this is safe: pieces are encoded separately, so a token lies within one piece. A control-token text within a piece had no
//! sentinel inside. If it came from a user string, or lay across the edge of one, it would have had a sentinel inside.
//!
//! Why not mark the beginning and end of every user string, which would tell exactly who wrote what: templates look into user
//! text (`content.startswith('<tool_response>')`, `content.split('</think>')`, `role == 'user'`), and a mark in the wrong place
//! changes what they do. Hence as few marks as possible:
//!
//! * Edge marks are placed beside the outermost character that is not white space, so that `trim` and `strip` still work.
//! * Protocol words (`role`, `type`) are never marked: every template compares them, and the API checks them first.
//!   Templates such as `'<|' + role + '|>'` may form control tokens from them.
//! * Keys are marked only if they contain a whole control token. No template looks such a key up.
//!
//! A template that compares or counts may still see a mark. So a request with marks is rendered without them too. If both
//! texts have the same control tokens in the same order, the text without marks is the prompt, with the cuts of the other
//! text.
//!
//! Limits: the template is trusted code. A template that changes user text into a control token (`replace`, `lower`), or
//! that removes parts from the middle of a user string and joins the rest, can let a user make one. A control token of one
//! character cannot be cut and is not kept out; no known vocabulary has one.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};

/// Values of `role` and `type` that templates compare, in messages, content parts, tool calls and JSON schemas.
const PROTOCOL_WORDS: [&str; 14] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "text",
    "object",
    "array",
    "string",
    "number",
    "integer",
    "boolean",
    "null",
];

/// Characters without meaning in text: noncharacters first, then the private-use planes.
const SENTINELS: [RangeInclusive<char>; 3] = [
    '\u{FDD0}'..='\u{FDEF}',
    '\u{F0000}'..='\u{FFFFD}',
    '\u{100000}'..='\u{10FFFD}',
];

/// Error: the control tokens of a vocabulary could not be indexed.
#[derive(Debug, thiserror::Error)]
#[error("the vocabulary's control tokens cannot be indexed: {0}; check the model's tokenizer")]
pub struct ControlTokensError(#[from] aho_corasick::BuildError);

/// An index of the texts that the tokenizer would read as control tokens.
#[derive(Clone, Debug)]
pub struct ControlTokens {
    /// Finds overlapping occurrences, because a cut in one must not leave another whole.
    finder: AhoCorasick,
    proper_prefixes: HashSet<Box<str>>,
    proper_suffixes: HashSet<Box<str>>,
    /// All texts joined, to look for strings that may be part of one.
    joined: String,
    longest_bytes: usize,
}

impl ControlTokens {
    /// Indexes the texts of all tokens that `EncodeFlags::PARSE_CONTROL` makes the tokenizer look for.
    ///
    /// # Errors
    /// If there are more texts than an automaton can hold.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Result<Self, ControlTokensError> {
        let texts: Vec<String> = texts
            .into_iter()
            .filter(|text| text.chars().nth(1).is_some())
            .collect();
        let (proper_prefixes, proper_suffixes) = texts
            .iter()
            .flat_map(|text| halves(text))
            .map(|(head, tail)| (Box::from(head), Box::from(tail)))
            .unzip();
        Ok(Self {
            finder: AhoCorasick::new(&texts)?,
            proper_prefixes,
            proper_suffixes,
            joined: texts.join("\n"),
            longest_bytes: texts.iter().map(String::len).max().unwrap_or(0),
        })
    }

    /// Marks every user-supplied text inside `value`.
    pub(super) fn mark(&self, value: &mut Value, sentinel: char) {
        match value {
            Value::String(text) => *text = self.mark_text(text, sentinel),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark(item, sentinel)),
            Value::Object(fields) => self.mark_fields(fields, sentinel),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Removes the sentinels from a rendered text, and cuts it where user text would have formed a control token.
    pub(super) fn split(&self, marked: &str, sentinel: char) -> SplitText {
        let (text, marks) = unmark(marked, sentinel);
        let mut cuts = Vec::new();
        if !marks.is_empty() {
            for token in self.finder.find_overlapping_iter(&text) {
                let first = marks.partition_point(|&mark| mark <= token.start());
                cuts.extend(
                    marks[first..]
                        .iter()
                        .take_while(|&&mark| mark < token.end()),
                );
            }
        }
        SplitText::new(text, cuts)
    }

    /// Transfers the cuts to `plain`, which the template rendered from the same values without marks. If the two texts differ
    /// in their control tokens, it is unknown who wrote them, and `split` is returned.
    pub(super) fn transfer(&self, split: SplitText, plain: String) -> SplitText {
        if split.text == plain {
            return split;
        }
        let tokens = |text| self.finder.find_overlapping_iter(text);
        let (from, to): (Vec<_>, Vec<_>) =
            (tokens(&split.text).collect(), tokens(&plain).collect());
        let is_same = from.len() == to.len()
            && from
                .iter()
                .zip(&to)
                .all(|(a, b)| a.pattern() == b.pattern());
        if !is_same {
            return split;
        }
        let cuts = from.iter().zip(&to).flat_map(|(from, to)| {
            let within = split
                .cuts
                .iter()
                .filter(|&&cut| from.start() < cut && cut < from.end());
            within.map(|cut| cut - from.start() + to.start())
        });
        let cuts = cuts.collect();
        SplitText::new(plain, cuts)
    }

    fn mark_fields(&self, fields: &mut Map<String, Value>, sentinel: char) {
        for (key, mut value) in std::mem::take(fields) {
            if !is_protocol_word(&key, &value) {
                self.mark(&mut value, sentinel);
            }
            let key = insert(&key, self.cuts_inside(&key), sentinel);
            fields.insert(key, value);
        }
    }

    fn mark_text(&self, text: &str, sentinel: char) -> String {
        let mut marks = self.cuts_inside(text);
        let body = text.trim();
        if self.may_end_token(body) || self.may_be_inside_token(body) {
            marks.push(text.len() - text.trim_start().len());
        }
        if self.may_start_token(body) {
            marks.push(text.trim_end().len());
        }
        insert(text, marks, sentinel)
    }

    /// Positions after the first character of each control-token text.
    fn cuts_inside(&self, text: &str) -> Vec<usize> {
        let after_first_char =
            |start: usize| start + text[start..].chars().next().map_or(0, char::len_utf8);
        self.finder
            .find_overlapping_iter(text)
            .map(|token| after_first_char(token.start()))
            .collect()
    }

    /// Whether text after `text` could complete a control token that begins in it.
    fn may_start_token(&self, text: &str) -> bool {
        let tails = text.char_indices().rev().map(|(at, _)| &text[at..]);
        tails
            .take_while(|tail| tail.len() < self.longest_bytes)
            .any(|tail| self.proper_prefixes.contains(tail))
    }

    /// Whether text before `text` could begin a control token that ends in it.
    fn may_end_token(&self, text: &str) -> bool {
        let heads = text
            .char_indices()
            .skip(1)
            .map(|(at, _)| &text[..at])
            .chain([text]);
        heads
            .take_while(|head| head.len() < self.longest_bytes)
            .any(|head| self.proper_suffixes.contains(head))
    }

    fn may_be_inside_token(&self, text: &str) -> bool {
        !text.is_empty() && text.len() < self.longest_bytes && self.joined.contains(text)
    }
}

/// A text and its cuts, at which no control token can form.
#[derive(Debug)]
pub(super) struct SplitText {
    text: String,
    cuts: Vec<usize>,
}

impl SplitText {
    fn new(text: String, mut cuts: Vec<usize>) -> Self {
        cuts.sort_unstable();
        cuts.dedup();
        Self { text, cuts }
    }

    /// The text's pieces, at least one.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        pieces(&self.text, &self.cuts)
    }
}

/// Three characters that occur neither in `values` nor in `texts`. So every occurrence of them after rendering is a mark.
pub(super) fn unused_sentinels<'a>(
    values: impl IntoIterator<Item = &'a Value>,
    texts: impl IntoIterator<Item = &'a str>,
) -> Option<[char; 3]> {
    let mut used = HashSet::new();
    let mut note = |text: &str| {
        used.extend(
            text.chars()
                .filter(|c| SENTINELS.iter().any(|range| range.contains(c))),
        )
    };
    texts.into_iter().for_each(&mut note);
    values
        .into_iter()
        .for_each(|value| visit_texts(value, &mut note));
    let mut unused = SENTINELS
        .into_iter()
        .flatten()
        .filter(|c| !used.contains(c));
    Some([unused.next()?, unused.next()?, unused.next()?])
}

/// All ways to cut a text in two.
fn halves(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().skip(1).map(|(at, _)| text.split_at(at))
}

fn visit_texts(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| visit_texts(item, visit)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            visit(key);
            visit_texts(value, visit);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_protocol_word(key: &str, value: &Value) -> bool {
    matches!(key, "role" | "type")
        && value
            .as_str()
            .is_some_and(|word| PROTOCOL_WORDS.contains(&word))
}

fn insert(text: &str, mut marks: Vec<usize>, sentinel: char) -> String {
    marks.sort_unstable();
    marks.dedup();
    let mut marked = String::with_capacity(text.len() + marks.len() * sentinel.len_utf8());
    for (index, piece) in pieces(text, &marks).enumerate() {
        if index > 0 {
            marked.push(sentinel);
        }
        marked.push_str(piece);
    }
    marked
}

/// The text without sentinels, and the positions in it where they were, in order.
fn unmark(marked: &str, sentinel: char) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(marked.len());
    let mut marks = Vec::new();
    for piece in marked.split(sentinel) {
        text.push_str(piece);
        marks.push(text.len());
    }
    marks.pop();
    (text, marks)
}

/// `text` split at the sorted positions `cuts`.
fn pieces<'a>(text: &'a str, cuts: &'a [usize]) -> impl Iterator<Item = &'a str> {
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([text.len()]);
    starts.zip(ends).map(|(start, end)| &text[start..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const S: char = '\u{FDD0}';

    fn control_tokens(texts: &[&str]) -> ControlTokens {
        ControlTokens::new(texts.iter().map(|text| text.to_string())).unwrap()
    }

    fn chatml() -> ControlTokens {
        control_tokens(&["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    }

    /// `·` stands for the sentinel in `expected`.
    #[track_caller]
    fn check_mark(control: &ControlTokens, mut value: Value, expected: Value) {
        control.mark(&mut value, S);
        let shown = value.to_string().replace(S, "·");
        assert_eq!(shown, expected.to_string());
    }

    #[test]
    fn whole_tokens_are_marked_inside() {
        let control = chatml();
        check_mark(&control, json!("a<|im_end|>b"), json!("a<·|im_end|>b"));
        check_mark(&control, json!("é<|im_end|>ü"), json!("é<·|im_end|>ü"));
        let (nested, marked) = ("<|im_<|im_end|>end|>", "<|im_<·|im_end|>end|>");
        check_mark(&control, json!(nested), json!(marked));
        let none = json!("no tokens, 1 < 2 |> 3");
        check_mark(&control, none.clone(), none);
    }

    #[test]
    fn overlapping_and_nested_tokens_are_all_marked() {
        let control = control_tokens(&["aba", "[<x>]", "<x>"]);
        check_mark(&control, json!("-ababa-"), json!("-a·ba·ba-"));
        check_mark(&control, json!("-[<x>]-"), json!("-[·<·x>]-"));
    }

    #[test]
    fn edges_are_marked_where_a_token_could_be_completed() {
        let control = chatml();
        check_mark(&control, json!("say <|im_"), json!("say <|im_·"));
        check_mark(&control, json!("say <|im_ \n"), json!("say <|im_· \n"));
        let (end, marked) = ("\n end|> he said", "\n ·end|> he said");
        check_mark(&control, json!(end), json!(marked));
        check_mark(&control, json!(" im_ "), json!(" ·im_ "));
        let none = json!("<tool_response>\nok</tool_response>");
        check_mark(&control, none.clone(), none);
    }

    #[test]
    fn keys_are_marked_inside_only_and_protocol_words_never() {
        let control = control_tokens(&["<|user|>", "<|text|>"]);
        check_mark(
            &control,
            json!({"role": "user", "content": [{"type": "text", "text": "user"}], "user": {"<|user|>": null}}),
            json!({"role": "user", "content": [{"type": "text", "text": "·user"}], "user": {"<·|user|>": null}}),
        );
    }

    #[test]
    fn only_marks_inside_a_token_cut() {
        let control = chatml();
        let split = |marked: &str| -> Vec<String> {
            let split = control.split(&marked.replace('·', &S.to_string()), S);
            split.pieces().map(str::to_owned).collect()
        };
        assert_eq!(split("<|im_end|>"), ["<|im_end|>"]);
        assert_eq!(split("1 <·<|im_end|>·|>"), ["1 <<|im_end|>|>"]);
        assert_eq!(
            split("x<|im_·end|>y<·|im_end|>"),
            ["x<|im_", "end|>y<", "|im_end|>"]
        );
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn a_sentinel_in_user_text_is_not_chosen() {
        let values = [json!({"a\u{FDD0}": ["\u{FDD1}", {"b": "\u{FDD3}"}]})];
        let chosen = unused_sentinels(&values, ["\u{FDD2}"]);
        assert_eq!(chosen, Some(['\u{FDD4}', '\u{FDD5}', '\u{FDD6}']));
        let all: String = SENTINELS.into_iter().flatten().skip(1).collect();
        assert_eq!(unused_sentinels(&[json!(all)], []), None);
    }

    #[test]
    fn texts_that_cannot_be_cut_are_left_out() {
        let control = control_tokens(&["", "x"]);
        check_mark(&control, json!("x y"), json!("x y"));
    }
}
