//! The tokenizer that plugins give to the host.

use std::sync::Arc;

use crate::{EncodeFlags, Error, Result, Tokenizer, Vocabulary};
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, models::bpe::BPE,
};

use super::{pipeline::Pipeline, spelling::Spelling, tokens::Tokens};

/// A byte-pair tokenizer with Hugging Face semantics.
#[derive(Clone)]
pub struct HfTokenizer(Arc<Inner>);

/// The parts of a tokenizer.
pub struct TokenizerParts {
    pub tokens: Tokens,
    pub spelling: Spelling,
    /// Tokens that are found in a text before it is cut into words.
    pub added: Vec<AddedToken>,
    pub pipeline: Pipeline,
    pub model: BPE,
    /// Tokens that `ADD_SPECIAL` puts before and behind a text.
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

struct Inner {
    vocabulary: Vocabulary,
    /// Finds all added tokens.
    all_added: AddedVocabulary,
    /// Finds the added tokens that are text, not control tokens.
    text_added: AddedVocabulary,
    beginning: Pipeline,
    continuation: Pipeline,
    model: BPE,
    before: Vec<u32>,
    after: Vec<u32>,
}

impl HfTokenizer {
    /// # Errors
    /// `INVALID` for tokens that cannot be indexed, and for tokens around texts that do not exist.
    pub(super) fn new(parts: TokenizerParts) -> Result<Self> {
        for &id in parts.before.iter().chain(&parts.after) {
            parts.tokens.check("special", id)?;
        }
        let normalizer = parts.pipeline.normalizer.as_ref();
        let text = parts.added.iter().filter(|token| !token.special);
        let text_added = parts
            .tokens
            .added_vocabulary(text.cloned().collect(), normalizer)?;
        let all_added = parts.tokens.added_vocabulary(parts.added, normalizer)?;
        Ok(Self(Arc::new(Inner {
            vocabulary: parts.tokens.vocabulary(parts.spelling),
            all_added,
            text_added,
            continuation: parts.pipeline.continuation(),
            beginning: parts.pipeline,
            model: parts.model,
            before: parts.before,
            after: parts.after,
        })))
    }

    /// Number of tokens. Every id is below it.
    pub fn vocab_size(&self) -> u32 {
        self.0.vocabulary.len() as u32
    }

    /// Whether `encode` gives the tokens that the model itself writes: only merges decide how a text is cut, and no part of
    /// it is lost.
    pub fn is_canonical(&self) -> bool {
        self.0.continuation.keeps_text()
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        let inner = &*self.0;
        let special = flags.contains(EncodeFlags::ADD_SPECIAL);
        let added = match flags.contains(EncodeFlags::PARSE_CONTROL) {
            true => &inner.all_added,
            false => &inner.text_added,
        };
        let mut tokens = Vec::new();
        if special {
            tokens.extend(&inner.before);
        }
        let mut rest = text;
        if flags.contains(EncodeFlags::CONTINUATION) {
            let head;
            (head, rest) = text.split_at(text_before_added(added, text));
            inner.encode(&inner.continuation, added, head, &mut tokens)?;
        }
        inner.encode(&inner.beginning, added, rest, &mut tokens)?;
        if special {
            tokens.extend(&inner.after);
        }
        Ok(tokens)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        Ok(self.0.vocabulary.clone())
    }
}

impl Inner {
    fn encode(
        &self,
        pipeline: &Pipeline,
        added: &AddedVocabulary,
        text: &str,
        tokens: &mut Vec<u32>,
    ) -> Result<()> {
        let mut words = added.extract_and_normalize(pipeline.normalizer.as_ref(), text);
        if let Some(pre_tokenizer) = &pipeline.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut words).map_err(failed)?;
        }
        words
            .tokenize(|word| self.model.tokenize(word.get()))
            .map_err(failed)?;
        let encoding = words.into_encoding(None, 0, OffsetType::None);
        tokens.extend(encoding.map_err(failed)?.get_ids());
        Ok(())
    }
}

/// Bytes of `text` before the first added token.
fn text_before_added(added: &AddedVocabulary, text: &str) -> usize {
    let pieces: PreTokenizedString = added.extract_and_normalize(None::<&NormalizerWrapper>, text);
    let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    match pieces.first() {
        Some((_, (_, end), None)) => *end,
        _ => 0,
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::invalid(format!("the tokenizer cannot read the text: {error}"))
}
