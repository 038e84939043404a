use std::sync::Arc;

use tenon_plugin_api::Vocabulary;

use crate::plugin::ModelFacts;

/// Values that all sequences of a model share.
pub struct Common {
    pub context_length: u32,
    pub max_draft_tokens: u32,
    /// Whether the session forks only whole sequences, so that beginnings are cached by themselves.
    pub forks_whole_only: bool,
    /// Mask of all tokens except those that end a text.
    pub endless: Arc<[u32]>,
    pub vocabulary: Arc<Vocabulary>,
}

impl Common {
    pub fn new(facts: &ModelFacts, max_draft_tokens: u32) -> Self {
        Self {
            context_length: facts.context_length(),
            max_draft_tokens,
            forks_whole_only: facts.forks_whole_only(),
            endless: all_but(&facts.info.eos, facts.info.logits_width),
            vocabulary: facts.vocabulary.clone(),
        }
    }
}

/// A mask of all tokens except these.
fn all_but(tokens: &[u32], logits_width: u32) -> Arc<[u32]> {
    let mut mask = vec![u32::MAX; logits_width.div_ceil(32) as usize];
    let padding = logits_width..logits_width.next_multiple_of(32);
    for token in padding.chain(tokens.iter().copied()) {
        if let Some(word) = mask.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }
    mask.into()
}
