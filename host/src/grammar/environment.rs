//! The model's tokens, as llguidance sees them.

use std::sync::{Arc, PoisonError, RwLock};

use tenon_plugin_api::{Capabilities, EncodeFlags, TokenKind, Vocabulary};
use toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::{engine::Engine, plugin::Tokenizer};

/// The tokenizer of the model that is served now. Grammars outlive a model whose level changes, and a tokenizer may keep its
/// model in memory.
#[derive(Clone, Default)]
pub struct CurrentTokenizer(Arc<RwLock<Option<Arc<Tokenizer>>>>);

impl CurrentTokenizer {
    /// None: there is none for a while.
    pub fn set(&self, tokenizer: Option<Arc<Tokenizer>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokenizer;
    }

    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokenizer = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        tokenizer?.encode(text, EncodeFlags::CONTINUATION).ok()
    }
}

/// What the vocabulary allows at each place, and how text is cut into tokens.
struct Environment {
    tokenizer: CurrentTokenizer,
    trie: TokTrie,
    /// Whether text that a grammar forces may be put in as the tokenizer's tokens.
    canonical: bool,
}

/// The environment of a model. Takes a while for a large vocabulary.
pub fn environment(engine: &Engine, tokenizer: CurrentTokenizer) -> TokEnv {
    let info = engine.info();
    Arc::new(Environment {
        trie: trie(engine.vocabulary(), &info.eos),
        canonical: info
            .capabilities
            .contains(Capabilities::CANONICAL_TOKENIZER),
        tokenizer,
    })
}

fn trie(vocabulary: &Vocabulary, eos: &[u32]) -> TokTrie {
    let tokens = 0..vocabulary.len() as u32;
    let words: Vec<_> = tokens.map(|token| word(vocabulary, eos, token)).collect();
    let end = eos.first().copied().unwrap_or(INVALID_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
    match eos {
        [] => trie,
        _ => trie.with_eos_tokens(eos),
    }
}

/// What a grammar has to allow for a token to be allowed. Control tokens are no text: their marker is no UTF-8, so only a
/// grammar that names them allows them. Tokens without a word are never allowed.
fn word(vocabulary: &Vocabulary, eos: &[u32], token: u32) -> Vec<u8> {
    let bytes = vocabulary.bytes(token);
    match vocabulary.kind(token) {
        kind if kind == TokenKind::CONTROL || eos.contains(&token) => {
            [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
        }
        TokenKind::UNKNOWN | TokenKind::UNUSED => Vec::new(),
        _ => bytes.to_vec(),
    }
}

impl Environment {
    /// None where the tokens would be another text, as those of a tokenizer that normalizes may be.
    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.tokenizer.encode(text)?;
        (self.trie.decode_raw(&tokens) == text.as_bytes()).then_some(tokens)
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| {
            let tokens = self.encode(text);
            tokens.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
