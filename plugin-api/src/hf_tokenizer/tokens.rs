//! The tokens of a vocabulary file, and the models that are built from them.

use std::collections::HashSet;

use crate::{Error, Result, TokenKind, Vocabulary};
use tokenizers::{
    AddedToken, AddedVocabulary, NormalizerWrapper,
    models::{
        bpe::{BpeBuilder, Vocab},
        wordlevel::WordLevel,
    },
};

use super::spelling::{Spelling, byte_token};

/// Most tokens of a vocabulary. The largest vocabularies have a tenth of it.
const MAX_TOKENS: u32 = 4 << 20;
/// Longest token. The time to find the merges that make a token grows with the square of its length.
const MAX_TEXT_BYTES: usize = 4096;

/// Tokens by id.
#[derive(Default)]
pub struct Tokens(pub Vec<Token>);

/// One token. Ids that a file leaves out are unused tokens without text.
#[derive(Clone, Debug)]
pub struct Token {
    /// The text as the file writes it.
    pub text: String,
    pub kind: TokenKind,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            text: String::new(),
            kind: TokenKind::UNUSED,
        }
    }
}

impl Token {
    /// Whether the byte-pair model may make this token from text. All other tokens are left out of the byte-pair model's
    /// vocabulary, so that no text becomes one of them.
    fn is_text(&self) -> bool {
        let control = [TokenKind::CONTROL, TokenKind::UNKNOWN].contains(&self.kind);
        !control && !self.text.is_empty()
    }
}

impl Tokens {
    /// Sets a token. The vocabulary grows if needed.
    ///
    /// # Errors
    /// `INVALID` for an id or a text that no vocabulary has.
    pub fn set(&mut self, id: u32, text: &str, kind: TokenKind) -> Result<()> {
        if id >= MAX_TOKENS {
            return Err(Error::invalid(format!(
                "the tokenizer has a token with the id {id}, but no vocabulary has more than {MAX_TOKENS}: get the model's files again"
            )));
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::invalid(format!(
                "the tokenizer's token {id} has {} bytes, but none has more than {MAX_TEXT_BYTES}: get the model's files again",
                text.len()
            )));
        }
        let at = id as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Token::default);
        }
        self.0[at] = Token {
            text: text.to_owned(),
            kind,
        };
        Ok(())
    }

    /// Checks a token that a model's files name.
    ///
    /// # Errors
    /// `INVALID` for a token that does not exist; the message names its purpose `what`.
    pub fn check(&self, what: &str, id: u32) -> Result<()> {
        match self.0.len() {
            len if (id as usize) < len => Ok(()),
            len => Err(Error::invalid(format!(
                "the {what} token {id} is outside of the model's vocabulary of {len} tokens: get the model's files again"
            ))),
        }
    }

    /// Bytes and kinds of the tokens, in the form that the host needs.
    pub fn vocabulary(&self, spelling: Spelling) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for Token { text, kind } in &self.0 {
            match *kind {
                TokenKind::NORMAL => vocabulary.push(&spelling.bytes(text), *kind),
                TokenKind::BYTE => match byte_token(text) {
                    Some(byte) => vocabulary.push(&[byte], *kind),
                    None => vocabulary.push(text.as_bytes(), *kind),
                },
                TokenKind::UNUSED => vocabulary.push(b"", *kind),
                _ => vocabulary.push(text.as_bytes(), *kind),
            }
        }
        vocabulary
    }

    /// A byte-pair model of the tokens that are [text](Token::is_text). It keeps the merges of two such tokens into such a
    /// token. The `unknown` token stands for characters that are in no token.
    pub fn byte_pairs(&self, merges: Vec<(String, String)>, unknown: Option<&str>) -> BpeBuilder {
        let text = self.with_ids().filter(|(token, _)| token.is_text());
        let mut vocab: Vocab = text.map(|(token, id)| (token.text.clone(), id)).collect();
        let known = |(left, right): &(String, String)| {
            let whole = format!("{left}{right}");
            let mut parts = [left, right, &whole].into_iter();
            parts.all(|part| vocab.contains_key(part))
        };
        let merges = merges.into_iter().filter(known).collect();
        let unknown = self
            .with_ids()
            .find(|(token, _)| Some(token.text.as_str()) == unknown);
        let mut model = BpeBuilder::new();
        if let Some((token, id)) = unknown {
            vocab.insert(token.text.clone(), id);
            model = model.unk_token(token.text.clone());
        }
        model.vocab_and_merges(vocab, merges)
    }

    /// An automaton that finds the `added` tokens in a text before it is cut into words.
    ///
    /// # Errors
    /// If there are more tokens than an automaton can hold.
    pub fn added_vocabulary(
        &self,
        added: Vec<AddedToken>,
        normalizer: Option<&NormalizerWrapper>,
    ) -> Result<AddedVocabulary> {
        // The library asks a model for the ids. Any model that knows these tokens serves.
        let texts: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
        let known = |(token, _): &(&Token, u32)| texts.contains(token.text.as_str());
        let ids = self.with_ids().filter(known);
        let ids = ids.map(|(token, id)| (token.text.clone(), id)).collect();
        let model = WordLevel::builder().vocab(ids).build().map_err(unusable)?;
        let mut vocabulary = AddedVocabulary::new();
        vocabulary
            .add_tokens(added, &model, normalizer)
            .map_err(unusable)?;
        Ok(vocabulary)
    }

    fn with_ids(&self) -> impl Iterator<Item = (&Token, u32)> {
        self.0.iter().zip(0..)
    }
}

/// An error of the library about a vocabulary that it cannot use.
pub fn unusable(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!(
        "the tokenizer cannot be built ({error}): get the model's files again"
    ))
}
