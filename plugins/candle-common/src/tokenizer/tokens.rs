//! The tokens of a vocabulary file, and what is made of them.

use std::collections::HashSet;

use tenon_plugin_api::{Error, Result, TokenKind, Vocabulary};
use tokenizers::{
    AddedToken, AddedVocabulary, NormalizerWrapper,
    models::{
        bpe::{BpeBuilder, Vocab},
        wordlevel::WordLevel,
    },
};

use super::spelling::{Spelling, byte_token};

/// Tokens by id.
#[derive(Default)]
pub struct Tokens(pub Vec<Token>);

/// One token. Ids that a file leaves out are unused tokens without text.
#[derive(Clone, Debug)]
pub struct Token {
    /// As the file writes it.
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
    /// Whether the byte-pair model may make this token of text. The others are kept from it: no text whatsoever becomes a
    /// token that is not in the model's vocabulary.
    fn is_text(&self) -> bool {
        let control = [TokenKind::CONTROL, TokenKind::UNKNOWN].contains(&self.kind);
        !control && !self.text.is_empty()
    }
}

impl Tokens {
    /// Sets a token, and makes room for it.
    pub fn set(&mut self, id: u32, text: &str, kind: TokenKind) {
        let at = id as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Token::default);
        }
        self.0[at] = Token {
            text: text.to_owned(),
            kind,
        };
    }

    /// Bytes and kinds, as the host wants them.
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

    /// A byte-pair model of the tokens that are [text](Token::is_text), with the merges that make such tokens of such tokens,
    /// and with the `unknown` token for characters that are in none.
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

    /// What finds `added` tokens in text before it is cut into words.
    ///
    /// # Errors
    /// If there are more of them than an automaton can hold.
    pub fn added_vocabulary(
        &self,
        added: Vec<AddedToken>,
        normalizer: Option<&NormalizerWrapper>,
    ) -> Result<AddedVocabulary> {
        // The library asks a model for the ids. Any will do that knows these tokens.
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

/// What the library said about a vocabulary that it cannot use.
pub fn unusable(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!(
        "the tokenizer cannot be built ({error}): get the model's files again"
    ))
}
