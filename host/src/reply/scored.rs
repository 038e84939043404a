//! Assigns tokens, with their log-probabilities, to pieces of text.

use std::collections::VecDeque;

use tenon_plugin_api::{TokenLogprob, Vocabulary};

use crate::engine::Logprobs;

/// A token with its log-probability, as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// The token's bytes, which may be half a character. For a control token they are its written form.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the token's probability. None for the first token of a prompt.
    pub logprob: Option<f32>,
    /// The most likely tokens at this place, by their bytes, most likely first.
    pub top: Vec<(Vec<u8>, f32)>,
    /// Number of characters before the token.
    pub text_offset: usize,
}

impl ScoredToken {
    /// A token with its bytes in the vocabulary. Its offset is 0.
    pub fn new(token: u32, logprobs: Option<Logprobs>, vocabulary: &Vocabulary) -> Self {
        let bytes = |token| vocabulary.bytes(token).to_vec();
        let (logprob, top) = logprobs.map_or((None, Vec::new()), |l| (Some(l.logprob), l.top));
        let top = top.into_iter();
        Self {
            bytes: bytes(token),
            logprob,
            top: top
                .map(|TokenLogprob { token, logprob }| (bytes(token), logprob))
                .collect(),
            text_offset: 0,
        }
    }
}

/// Tokens that wait until their text is released, because a stop string may still cut it off.
#[derive(Default)]
pub struct HeldTokens {
    /// The tokens, in order.
    waiting: VecDeque<Held>,
    /// Bytes of text that all tokens so far have made.
    made_bytes: usize,
    /// Number of characters before the next token.
    made_characters: usize,
}

struct Held {
    token: ScoredToken,
    /// The byte at which the token's text begins.
    start: usize,
    /// The byte at which the token's text ends. None while it ends within a character.
    end: Option<usize>,
}

impl HeldTokens {
    /// For an answer that follows a text of this many characters.
    pub fn after(characters: usize) -> Self {
        Self {
            made_characters: characters,
            ..Self::default()
        }
    }

    /// Takes the next token and sets its offset.
    pub fn push(&mut self, mut token: ScoredToken) {
        token.text_offset = self.made_characters;
        self.waiting.push_back(Held {
            token,
            start: self.made_bytes,
            end: None,
        });
    }

    /// Takes the text that the latest tokens have made. `is_whole`: the text includes the last byte of these tokens.
    pub fn made(&mut self, text: &str, is_whole: bool) {
        self.made_bytes += text.len();
        self.made_characters += text.chars().count();
        if is_whole || !text.is_empty() {
            let open = self.waiting.iter_mut().rev();
            for held in open.take_while(|held| held.end.is_none()) {
                held.end = Some(self.made_bytes);
            }
        }
    }

    /// Returns the tokens whose text is decided. The last `undecided_bytes` bytes of text are not.
    pub fn release(&mut self, undecided_bytes: usize) -> Vec<ScoredToken> {
        let decided = self.made_bytes.saturating_sub(undecided_bytes);
        self.take_while(|held| held.end.is_some_and(|end| end <= decided))
    }

    /// Returns the tokens that begin before the last `cut_bytes` bytes of text, which were cut off.
    pub fn cut(&mut self, cut_bytes: usize) -> Vec<ScoredToken> {
        let end = self.made_bytes.saturating_sub(cut_bytes);
        self.take_while(|held| held.start < end)
    }

    /// Returns all tokens that are left, also those of half a character.
    pub fn rest(&mut self) -> Vec<ScoredToken> {
        self.take_while(|_| true)
    }

    fn take_while(&mut self, is_out: impl Fn(&Held) -> bool) -> Vec<ScoredToken> {
        let waiting = self.waiting.iter();
        let count = waiting.take_while(|held| is_out(held)).count();
        self.waiting.drain(..count).map(|held| held.token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8]) -> ScoredToken {
        ScoredToken {
            bytes: bytes.to_vec(),
            logprob: Some(-1.0),
            top: Vec::new(),
            text_offset: 0,
        }
    }

    /// The bytes and offset of each token.
    fn plain(tokens: Vec<ScoredToken>) -> Vec<(Vec<u8>, usize)> {
        let pairs = tokens.into_iter().map(|t| (t.bytes, t.text_offset));
        pairs.collect()
    }

    #[test]
    fn halves_of_a_character_come_with_it_and_have_one_offset() {
        let mut held = HeldTokens::after(2);
        held.push(token(b"\xC3"));
        held.made("", false);
        assert_eq!(held.release(0), []);
        held.push(token(b"\xA9"));
        held.made("é", true);
        let expected = [(b"\xC3".to_vec(), 2), (b"\xA9".to_vec(), 2)];
        assert_eq!(plain(held.release(0)), expected);
        held.push(token(b"a"));
        held.made("a", true);
        assert_eq!(plain(held.release(0)), [(b"a".to_vec(), 3)]);
        held.push(token(b"\xC3"));
        held.made("", false);
        assert_eq!(held.release(0), []);
        assert_eq!(plain(held.rest()), [(b"\xC3".to_vec(), 4)]);
    }

    #[test]
    fn tokens_wait_for_their_text() {
        let mut held = HeldTokens::default();
        held.push(token(b"ab"));
        held.made("ab", true);
        assert_eq!(held.release(1), []);
        assert_eq!(plain(held.release(0)), [(b"ab".to_vec(), 0)]);
    }

    #[test]
    fn what_a_stop_string_cuts_is_not_given() {
        let mut held = HeldTokens::default();
        for text in ["ab", "cd", "e"] {
            held.push(token(text.as_bytes()));
            held.made(text, true);
        }
        // The stop string was "de". The token "cd" begins before it.
        let expected = [(b"ab".to_vec(), 0), (b"cd".to_vec(), 2)];
        assert_eq!(plain(held.cut(2)), expected);
    }

    #[test]
    fn a_token_without_text_comes_with_what_is_out_before_it() {
        let mut held = HeldTokens::default();
        held.push(token(b"<|x|>"));
        held.made("", true);
        assert_eq!(plain(held.release(0)), [(b"<|x|>".to_vec(), 0)]);
    }
}
