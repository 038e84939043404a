//! The model's vocabulary and tokenizer, in the form that llguidance takes.

use std::sync::Arc;

use tenon_plugin_api::{Capabilities, EncodeFlags, TokenKind, Vocabulary};
use toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::plugin::{Current, CurrentFacts, ModelFacts};

/// The facts of the model that is served now. None while no model is loaded. Grammars outlive a model whose level
/// changes. They must not keep its tokenizer, which may keep the model in memory.
pub type ServedFacts = Current<Option<CurrentFacts>>;

/// Tells llguidance which tokens there are and how text is cut into tokens.
struct TokenEnvironment {
    served: ServedFacts,
    trie: TokTrie,
    /// Whether the tokenizer's tokens may stand for text that a grammar forces.
    canonical: bool,
}

/// Makes the environment of a model. Takes a while for a large vocabulary.
pub fn environment(facts: &ModelFacts, served: ServedFacts) -> TokEnv {
    let info = &facts.info;
    Arc::new(TokenEnvironment {
        trie: trie(&facts.vocabulary, &info.eos),
        canonical: info
            .capabilities
            .contains(Capabilities::CANONICAL_TOKENIZER),
        served,
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

/// The bytes that a grammar must allow for a token to be allowed. For control and end tokens they begin with a marker
/// that is not UTF-8, so only a grammar that names the token allows it. A token without bytes is never allowed.
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

impl TokenEnvironment {
    /// Encodes a text. None if no model is loaded, or if the tokens decode to another text, as with a tokenizer that
    /// normalizes.
    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let facts = self.served.get()?.get();
        let tokens = facts.tokenizer.encode(text, EncodeFlags::CONTINUATION);
        let tokens = tokens.ok()?;
        (self.trie.decode_raw(&tokens) == text.as_bytes()).then_some(tokens)
    }
}

impl TokenizerEnv for TokenEnvironment {
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
