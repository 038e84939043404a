//! Which tokens, with their log-probabilities, go with which piece of text.

use std::collections::VecDeque;

use tenon_plugin_api::{TokenLogprob, Vocabulary};

use crate::engine::Logprobs;

/// A token as a listener sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// Its bytes, which may be half a character; those of a control token are its written form.
    pub bytes: Vec<u8>,
    /// Log-probability (natural). None for the first token of a prompt, which nothing comes before.
    pub logprob: Option<f32>,
    /// The most likely tokens at its place, most likely first.
    pub top: Vec<(Vec<u8>, f32)>,
    /// Characters before it.
    pub text_offset: usize,
}

impl ScoredToken {
    /// A token with the bytes that the vocabulary has for it.
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

/// Tokens whose text is not released yet: a stop string may still cut it.
#[derive(Default)]
pub struct HeldTokens {
    /// In order.
    waiting: VecDeque<Held>,
    /// Bytes of text that all tokens made.
    made_bytes: usize,
    /// Characters before the next token.
    made_characters: usize,
    /// Bytes of text that were released.
    released_bytes: usize,
}

struct Held {
    token: ScoredToken,
    /// Where its text begins, in bytes.
    start: usize,
    /// Where it ends. None while the end is half a character.
    end: Option<usize>,
}

impl HeldTokens {
    /// For text that comes after this many characters.
    pub fn after(characters: usize) -> Self {
        Self {
            made_characters: characters,
            ..Self::default()
        }
    }

    /// Takes the next token, whose offset is filled in.
    pub fn push(&mut self, mut token: ScoredToken) {
        token.text_offset = self.made_characters;
        self.waiting.push_back(Held {
            token,
            start: self.made_bytes,
            end: None,
        });
    }

    /// Takes the text that the tokens so far made. `is_whole`: their last byte is in it.
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

    /// Releases text, and gives the tokens whose text is out now.
    pub fn release(&mut self, text: &str) -> Vec<ScoredToken> {
        self.released_bytes += text.len();
        let released = self.released_bytes;
        self.take_while(|held| held.end.is_some_and(|end| end <= released))
    }

    /// Releases the last text: what comes after it was cut. Gives the tokens that begin in the text.
    pub fn cut(&mut self, text: &str) -> Vec<ScoredToken> {
        self.released_bytes += text.len();
        let released = self.released_bytes;
        self.take_while(|held| held.start < released)
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

    /// Bytes and offset of each.
    fn plain(tokens: Vec<ScoredToken>) -> Vec<(Vec<u8>, usize)> {
        let pairs = tokens.into_iter().map(|t| (t.bytes, t.text_offset));
        pairs.collect()
    }

    #[test]
    fn halves_of_a_character_come_with_it_and_have_one_offset() {
        let mut held = HeldTokens::after(2);
        held.push(token(b"\xC3"));
        held.made("", false);
        assert_eq!(held.release(""), []);
        held.push(token(b"\xA9"));
        held.made("é", true);
        let expected = [(b"\xC3".to_vec(), 2), (b"\xA9".to_vec(), 2)];
        assert_eq!(plain(held.release("é")), expected);
        held.push(token(b"a"));
        held.made("a", true);
        assert_eq!(plain(held.release("a")), [(b"a".to_vec(), 3)]);
    }

    #[test]
    fn tokens_wait_for_their_text() {
        let mut held = HeldTokens::default();
        held.push(token(b"ab"));
        held.made("ab", true);
        assert_eq!(held.release("a"), []);
        assert_eq!(plain(held.release("b")), [(b"ab".to_vec(), 0)]);
    }

    #[test]
    fn what_a_stop_string_cuts_is_not_given() {
        let mut held = HeldTokens::default();
        for text in ["ab", "cd", "e"] {
            held.push(token(text.as_bytes()));
            held.made(text, true);
        }
        // "de" was the stop string: its token "cd" begins before it.
        let expected = [(b"ab".to_vec(), 0), (b"cd".to_vec(), 2)];
        assert_eq!(plain(held.cut("abc")), expected);
    }

    #[test]
    fn a_token_without_text_comes_with_what_is_out_before_it() {
        let mut held = HeldTokens::default();
        held.push(token(b"<|x|>"));
        held.made("", true);
        assert_eq!(plain(held.release("")), [(b"<|x|>".to_vec(), 0)]);
    }
}
