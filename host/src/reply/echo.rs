use tenon_plugin_api::Vocabulary;

use super::{ScoredToken, transcript::written};
use crate::engine::Logprobs;

/// A prompt that is repeated before the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The text that is repeated.
    text: String,
    /// The tokens that the model gets.
    tokens: Vec<u32>,
}

impl Echo {
    /// A prompt that was given as text.
    pub fn of_text(text: String, tokens: Vec<u32>) -> Self {
        Self { text, tokens }
    }

    /// A prompt that was given as tokens. In its text, control tokens have their written form.
    pub fn of_tokens(tokens: Vec<u32>, vocabulary: &Vocabulary) -> Self {
        Self {
            text: written(&tokens, vocabulary),
            tokens,
        }
    }

    /// The text that is repeated.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The prompt's tokens with their log-probabilities. `logprobs` begins with those of the second token, because the
    /// first has none.
    pub fn scored(&self, logprobs: Vec<Logprobs>, vocabulary: &Vocabulary) -> Vec<ScoredToken> {
        let mut place = TextPosition::of(&self.text);
        let logprobs = [None].into_iter().chain(logprobs.into_iter().map(Some));
        let tokens = self.tokens.iter().zip(logprobs);
        tokens
            .map(|(&token, logprobs)| {
                let text_offset = place.characters;
                place.pass(vocabulary.bytes(token));
                ScoredToken {
                    text_offset,
                    ..ScoredToken::new(token, logprobs, vocabulary)
                }
            })
            .collect()
    }
}

/// A position in a text that moves on token by token.
struct TextPosition<'a> {
    text: &'a str,
    bytes: usize,
    /// Number of whole characters before the position.
    characters: usize,
}

impl<'a> TextPosition<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            bytes: 0,
            characters: 0,
        }
    }

    /// Moves past a token. Tokens that are not in the text have no length, nor has a space that the tokenizer put
    /// before the text.
    fn pass(&mut self, token: &[u8]) {
        let without_space = token.strip_prefix(b" ").unwrap_or(token);
        let rest = &self.text.as_bytes()[self.bytes..];
        let length = match rest {
            rest if rest.starts_with(token) => token.len(),
            rest if rest.starts_with(without_space) => without_space.len(),
            _ => 0,
        };
        let ends = self.bytes + 1..=self.bytes + length;
        let whole = ends.filter(|&end| self.text.is_char_boundary(end));
        self.characters += whole.count();
        self.bytes += length;
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::{ByteTokenizer, TokenLogprob, Tokenizer};

    use super::*;

    #[test]
    fn the_first_token_has_no_logprob_and_offsets_count_characters() {
        let vocabulary = ByteTokenizer::new(&["<|b|>"]).vocabulary().unwrap();
        let tokens = vec![256, 0xC3, 0xA9, u32::from(b'a')];
        let echo = Echo::of_text("éa".to_owned(), tokens);
        let logprobs = [-1.0, -2.0, -3.0].map(|logprob| Logprobs {
            logprob,
            top: vec![TokenLogprob { token: 97, logprob }],
        });
        let scored = echo.scored(logprobs.to_vec(), &vocabulary);
        let logprobs: Vec<_> = scored.iter().map(|token| token.logprob).collect();
        assert_eq!(logprobs, [None, Some(-1.0), Some(-2.0), Some(-3.0)]);
        let offsets: Vec<_> = scored.iter().map(|token| token.text_offset).collect();
        // The tokenizer added the first token. The next two are halves of a character.
        assert_eq!(offsets, [0, 0, 0, 1]);
        assert_eq!(scored[3].top, [(b"a".to_vec(), -3.0)]);
        assert!(scored[0].top.is_empty());
    }

    #[test]
    fn a_space_that_the_tokenizer_added_has_no_length() {
        let mut place = TextPosition::of("Once upon");
        for (token, characters) in [(&b" Once"[..], 4), (b" up", 7), (b"on", 9)] {
            place.pass(token);
            assert_eq!(place.characters, characters);
        }
    }

    #[test]
    fn tokens_are_repeated_as_they_are_written() {
        let vocabulary = ByteTokenizer::new(&["<|b|>"]).vocabulary().unwrap();
        let echo = Echo::of_tokens(vec![256, 97], &vocabulary);
        assert_eq!(echo.text(), "<|b|>a");
    }
}
