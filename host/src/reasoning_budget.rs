//! Limits the tokens of an answer's reasoning. Where the budget is used up, the closing tag must come.
//!
//! The limiter reads the tokens of a sequence with the same [`ReasoningSplitter`] that reads the answer's text, so both agree
//! about where reasoning begins and ends. Invariant: nothing here knows HTTP, wire types or the engine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tenon_plugin_api::Vocabulary;

use crate::{
    detokenize::Detokenizer,
    markup::{Reasoning, ReasoningSplitter, Split},
};

/// The budget of an answer's reasoning, as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningBudget {
    /// Most tokens of reasoning, all parts of it together.
    pub tokens: u32,
    /// The tags, and what the prompt has of them.
    pub reasoning: Reasoning,
    /// Control tokens that count as text.
    pub marks: Arc<[u32]>,
    /// Tokens of the closing tag.
    pub close: Vec<u32>,
    /// Tokens from behind the closing tag up to the answer. They are forced only if the model reasons again although its
    /// budget is used up: until then it chooses itself what follows reasoning.
    pub behind: Vec<u32>,
}

/// Follows the tokens of one sequence, and forces the closing tag where the budget is used up. Its buffers are reused, because the
/// model thread allocates nothing while it decodes.
pub struct ReasoningLimiter {
    budget: ReasoningBudget,
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
    splitter: ReasoningSplitter,
    /// The buffer of what the splitter decides. Only the splitter's state is of use here.
    split: Split,
    /// Tokens of reasoning that may still come.
    left: u32,
    /// Tokens that must come next, the first one last.
    forced: Vec<u32>,
    /// Whether a closing tag was forced.
    has_closed: bool,
}

impl ReasoningLimiter {
    /// A limiter at the beginning of an answer.
    pub fn new(budget: ReasoningBudget, vocabulary: Arc<Vocabulary>) -> Self {
        let mut limiter = Self {
            detokenizer: Detokenizer::new(vocabulary.clone(), budget.marks.clone()),
            vocabulary,
            splitter: ReasoningSplitter::new(budget.reasoning.clone()),
            split: Split::with_room(),
            left: budget.tokens,
            forced: Vec::with_capacity(budget.close.len() + budget.behind.len()),
            has_closed: false,
            budget,
        };
        limiter.close_if_used_up();
        limiter
    }

    /// The token that must come next. None: any token may come.
    pub fn forced(&self) -> Option<u32> {
        self.forced.last().copied()
    }

    /// Takes the next token. It may differ from the forced one, if a grammar does not allow that one yet.
    pub fn push(&mut self, token: u32) {
        match self.forced.pop() {
            Some(forced) if forced == token => self.has_closed |= self.forced.is_empty(),
            _ => self.forced.clear(),
        }
        if !self.splitter.may_reason() {
            return;
        }
        let is_reasoning = self.splitter.is_reasoning();
        self.left = self.left.saturating_sub(is_reasoning.into());
        self.split.clear();
        let text = self.detokenizer.push(token);
        self.splitter.push_into(text, &mut self.split);
        self.close_if_used_up();
    }

    /// Forces the closing tag if the budget is used up and the text has whole characters.
    fn close_if_used_up(&mut self) {
        let is_used_up = self.left == 0 && self.splitter.is_reasoning();
        if !is_used_up || !self.forced.is_empty() || self.detokenizer.is_inside_character() {
            return;
        }
        let Some(begun) = self.begun_tokens() else {
            return;
        };
        let behind = if self.has_closed {
            &self.budget.behind[..]
        } else {
            &[]
        };
        let tokens = self.budget.close[begun..].iter().chain(behind);
        self.forced.extend(tokens.rev());
    }

    /// How many tokens of the closing tag the model has written itself. None if it writes the tag with other tokens: it goes on
    /// until that is a tag, or none.
    fn begun_tokens(&self) -> Option<usize> {
        let (mut bytes, mut tokens) = (self.splitter.begun_close(), 0);
        while bytes > 0 {
            let token = *self.budget.close.get(tokens)?;
            bytes = bytes.checked_sub(self.vocabulary.bytes(token).len())?;
            tokens += 1;
        }
        Some(tokens)
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::TokenKind;

    use super::*;
    use crate::markup::{InPrompt, ReasoningTags};

    const PLAIN: (&str, &str) = ("<think>", "</think>");
    const CHANNELS: (&str, &str) = ("<|channel|>analysis<|message|>", "<|end|>");

    /// A token for each byte, and then these.
    const MORE: [(&str, TokenKind); 8] = [
        ("</", TokenKind::NORMAL),
        ("think", TokenKind::NORMAL),
        ("</th", TokenKind::NORMAL),
        ("<|start|>", TokenKind::CONTROL),
        ("<|channel|>", TokenKind::CONTROL),
        ("<|message|>", TokenKind::CONTROL),
        ("<|end|>", TokenKind::CONTROL),
        ("<|other|>", TokenKind::CONTROL),
    ];

    fn vocabulary() -> Arc<Vocabulary> {
        let mut vocabulary = Vocabulary::default();
        for byte in 0..=255 {
            vocabulary.push(&[byte], TokenKind::BYTE);
        }
        for (text, kind) in MORE {
            vocabulary.push(text.as_bytes(), kind);
        }
        Arc::new(vocabulary)
    }

    /// The tokens of a text, with the longest token first.
    fn tokens(mut text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        while let Some(&byte) = text.as_bytes().first() {
            let longer = MORE.iter().position(|(more, _)| text.starts_with(more));
            let bytes = longer.map_or(1, |at| MORE[at].0.len());
            tokens.push(longer.map_or(byte.into(), |at| 256 + at as u32));
            text = text.get(bytes..).unwrap_or_else(|| panic!("{text}"));
        }
        tokens
    }

    fn budget(tokens_left: u32, (open, close): (&str, &str), are_open: bool) -> ReasoningBudget {
        let tags = ReasoningTags::new(open, close);
        ReasoningBudget {
            tokens: tokens_left,
            marks: Arc::new([259, 260, 261, 262]),
            close: tokens(close),
            behind: tokens(&[tags.frame.turn, tags.frame.answer].concat()),
            reasoning: Reasoning {
                tags,
                in_prompt: match are_open {
                    true => InPrompt::Opened,
                    false => InPrompt::Nothing,
                },
            },
        }
    }

    /// The text of a model that picks these tokens wherever no token is forced.
    fn written(budget: ReasoningBudget, tokens: &[u32]) -> String {
        let vocabulary = vocabulary();
        let mut limiter = ReasoningLimiter::new(budget, vocabulary.clone());
        let (mut own, mut bytes) = (tokens.iter(), Vec::new());
        while let Some(token) = limiter.forced().or_else(|| own.next().copied()) {
            limiter.push(token);
            bytes.extend_from_slice(vocabulary.bytes(token));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a text are the tokens.
    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[track_caller]
    fn check(tokens: u32, are_open: bool, own: &str, expected: &str) {
        let written = written(budget(tokens, PLAIN, are_open), &bytes(own));
        assert_eq!(written, expected);
    }

    #[test]
    fn reasoning_is_closed_behind_its_budget() {
        check(3, false, "<think>abcdef", "<think>abc</think>def");
        check(3, true, "abcdef", "abc</think>def");
        check(0, true, "abc", "</think>abc");
        check(0, false, " <think>abc", " <think></think>abc");
    }

    #[test]
    fn what_stays_within_the_budget_is_not_changed() {
        for text in ["<think>abc</think>def", "abcdef", "", "<think"] {
            check(20, false, text, text);
        }
        check(20, true, "abc</think>def", "abc</think>def");
        check(1, false, "a <think>bcd", "a <think>bcd");
        // These tags begin reasoning only once.
        let again = "<think>a</think>b<think>0123456789abcdefghijklmnop";
        check(20, false, again, again);
    }

    #[test]
    fn a_character_stays_whole() {
        check(2, true, "aéb", "aé</think>b");
        check(1, true, "🦀b", "🦀</think>b");
    }

    #[test]
    fn a_tag_that_the_model_has_begun_is_completed() {
        let close = |own: &str| written(budget(3, PLAIN, true), &tokens(own));
        // Its first two tokens are within the budget.
        assert_eq!(close("a</thinkb"), "a</think>b");
        // No token of the tag is only this character.
        check(3, true, "ab<c", "ab<c</think>");
        // The model has begun the tag with another token than the budget's, and ends it or not.
        let other = |rest: &str| {
            let own = [&[u32::from(b'a'), u32::from(b'b'), 258], &bytes(rest)[..]].concat();
            written(budget(3, PLAIN, true), &own)
        };
        assert_eq!(other("inkc"), "ab</think>c");
        assert_eq!(other("c"), "ab</thc</think>");
    }

    #[test]
    fn a_token_that_was_not_allowed_is_forced_later() {
        let vocabulary = vocabulary();
        let mut limiter = ReasoningLimiter::new(budget(0, PLAIN, true), vocabulary);
        let close = tokens("</think>");
        assert_eq!(limiter.forced(), Some(close[0]));
        limiter.push(b'a'.into());
        assert_eq!(limiter.forced(), Some(close[0]));
        for token in close {
            assert_eq!(limiter.forced(), Some(token));
            limiter.push(token);
        }
        assert_eq!(limiter.forced(), None);
    }

    #[test]
    fn channels_share_the_budget_and_the_second_one_leads_to_the_answer() {
        let own = "<|channel|>analysis<|message|>abcdef<|start|>assistant<|channel|>analysis<|message|>gh";
        let written = written(budget(3, CHANNELS, false), &tokens(own));
        assert_eq!(
            written,
            "<|channel|>analysis<|message|>abc<|end|>def<|start|>assistant<|channel|>analysis<|message|><|end|>\
             <|start|>assistant<|channel|>final<|message|>gh"
        );
    }

    #[test]
    fn other_control_tokens_count_but_are_no_text() {
        let own = [&[263, 263], &bytes("abc")[..]].concat();
        let written = written(budget(3, PLAIN, true), &own);
        assert_eq!(written, "<|other|><|other|>a</think>bc");
    }

    #[test]
    fn a_budget_crosses_to_another_process() {
        let sent = budget(3, CHANNELS, true);
        let frame = postcard::to_stdvec(&sent).unwrap();
        assert_eq!(postcard::from_bytes(&frame), Ok(sent));
    }
}
