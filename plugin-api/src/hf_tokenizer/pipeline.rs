//! Processing of text before the byte-pair model.

use tokenizers::{
    NormalizerWrapper, PreTokenizerWrapper,
    normalizers::Sequence as Normalizers,
    pre_tokenizers::{metaspace::PrependScheme, sequence::Sequence as PreTokenizers},
};

/// Normalizes text, then cuts it into words.
#[derive(Clone, Default)]
pub struct Pipeline {
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
}

impl Pipeline {
    /// The same pipeline for text that continues another text: without the space before the first word.
    pub fn continuation(&self) -> Self {
        Self {
            normalizer: self.normalizer.clone().and_then(without_prepend),
            pre_tokenizer: self.pre_tokenizer.clone().map(without_prefix),
        }
    }

    /// Whether the tokens of a text spell it exactly, except for different Unicode forms and visible spaces.
    pub fn keeps_text(&self) -> bool {
        self.normalizer.as_ref().is_none_or(keeps_text)
    }
}

fn keeps_text(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Prepend(_)
        | NormalizerWrapper::Replace(_)
        | NormalizerWrapper::NFC(_)
        | NormalizerWrapper::ByteLevel(_) => true,
        NormalizerWrapper::Sequence(parts) => parts.as_ref().iter().all(keeps_text),
        _ => false,
    }
}

fn without_prepend(normalizer: NormalizerWrapper) -> Option<NormalizerWrapper> {
    match normalizer {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(parts) => {
            let parts = parts.into_iter().filter_map(without_prepend).collect();
            Some(Normalizers::new(parts).into())
        }
        other => Some(other),
    }
}

fn without_prefix(pre_tokenizer: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(mut metaspace) => {
            metaspace.prepend_scheme = PrependScheme::Never;
            metaspace.into()
        }
        PreTokenizerWrapper::ByteLevel(byte_level) => byte_level.add_prefix_space(false).into(),
        PreTokenizerWrapper::Sequence(parts) => {
            PreTokenizers::new(parts.into_iter().map(without_prefix).collect()).into()
        }
        other => other,
    }
}
