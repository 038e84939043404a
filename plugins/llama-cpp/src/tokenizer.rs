//! The vocabulary in the GGUF file, through llama.cpp's tokenizer.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{EncodeFlags, Error, Result, TokenKind, Tokenizer, Vocabulary};

use crate::{shim, weights::Weights};

/// A character that no vocabulary has inside of a longer token. Text after it is tokenized as if nothing came before it.
const SENTINEL: &str = "\u{1}";

pub struct LlamaTokenizer {
    weights: Arc<Weights>,
    /// The tokens of a [`SENTINEL`] at the beginning of a text, if the vocabulary puts a space before a text.
    prefixed_sentinel: Option<Vec<u32>>,
}

impl LlamaTokenizer {
    pub fn new(weights: Arc<Weights>) -> Result<Self> {
        // SAFETY: the vocabulary belongs to the model.
        let kind = unsafe { sys::llama_vocab_type(weights.vocab()) };
        if kind == sys::LLAMA_VOCAB_TYPE_NONE {
            return Err(Error::invalid(
                "the model has no vocabulary: use a GGUF file with one",
            ));
        }
        let mut tokenizer = Self {
            weights,
            prefixed_sentinel: None,
        };
        if kind == sys::LLAMA_VOCAB_TYPE_SPM {
            let sentinel = tokenizer.tokenize(SENTINEL, EncodeFlags::NONE)?;
            tokenizer.prefixed_sentinel = Some(sentinel).filter(|tokens| tokens.len() > 1);
        }
        Ok(tokenizer)
    }

    fn tokenize(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        let add_special = flags.contains(EncodeFlags::ADD_SPECIAL);
        let parse_special = flags.contains(EncodeFlags::PARSE_CONTROL);
        // Room for one token per byte, BOS, EOS and the space before the text: more is rare.
        let mut tokens = vec![0; text.len() + 3];
        loop {
            // SAFETY: the vocabulary belongs to the model, and a tokenizer is made only if there is one.
            let count = unsafe {
                shim::tokenize(
                    self.weights.vocab(),
                    text,
                    &mut tokens,
                    add_special,
                    parse_special,
                )
            }?;
            let fits = count >= 0;
            tokens.resize(count.unsigned_abs() as usize, 0);
            if fits {
                return Ok(tokens);
            }
        }
    }

    /// Tokenizes the text after a sentinel, so that the space is put before the sentinel, and then removes both.
    fn tokenize_continuation(
        &self,
        text: &str,
        flags: EncodeFlags,
        sentinel: &[u32],
    ) -> Result<Vec<u32>> {
        let mut tokens = self.tokenize(&format!("{SENTINEL}{text}"), flags)?;
        let at = tokens
            .windows(sentinel.len())
            .position(|window| window == sentinel);
        let at = at.ok_or_else(|| {
            Error::invalid("the vocabulary joins a control character with the text after it")
        })?;
        tokens.drain(at..at + sentinel.len());
        Ok(tokens)
    }
}

impl Tokenizer for LlamaTokenizer {
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        match &self.prefixed_sentinel {
            Some(sentinel) if flags.contains(EncodeFlags::CONTINUATION) => {
                self.tokenize_continuation(text, flags, sentinel)
            }
            _ => self.tokenize(text, flags),
        }
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        let vocab = self.weights.0.vocab();
        let mut vocabulary = Vocabulary::default();
        let mut bytes = Vec::new();
        for token in vocab.tokens() {
            bytes.clear();
            vocab.token_to_piece_into(token, &mut bytes, true, None);
            // SAFETY: the token is one of the vocabulary's. (The safe call panics on attributes that it does not know.)
            let attributes = unsafe { sys::llama_vocab_get_attr(self.weights.vocab(), token.0) };
            vocabulary.push(&bytes, kind(attributes));
        }
        Ok(vocabulary)
    }
}

/// The kind of a token, by the first of llama.cpp's attributes that says more than "text".
fn kind(attributes: sys::llama_token_attr) -> TokenKind {
    let kinds = [
        (sys::LLAMA_TOKEN_ATTR_CONTROL, TokenKind::CONTROL),
        (sys::LLAMA_TOKEN_ATTR_BYTE, TokenKind::BYTE),
        (sys::LLAMA_TOKEN_ATTR_UNUSED, TokenKind::UNUSED),
        (sys::LLAMA_TOKEN_ATTR_UNKNOWN, TokenKind::UNKNOWN),
        (sys::LLAMA_TOKEN_ATTR_USER_DEFINED, TokenKind::USER_DEFINED),
    ];
    let found = kinds.iter().find(|(bit, _)| attributes & bit != 0);
    found.map_or(TokenKind::NORMAL, |&(_, kind)| kind)
}
