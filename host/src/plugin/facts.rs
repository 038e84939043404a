//! Facts about a loaded model.

use std::{ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{EmbedderInfo, ModelInfo, SessionInfo, Vocabulary};

use super::{Current, Tokenizer};

/// Facts about a loaded model. They never change: a model that is loaded again gets facts of its own.
#[derive(Serialize, Deserialize)]
pub struct ModelFacts {
    /// What the plugin reports about the model.
    pub info: ModelInfo,
    /// The session that the plugin granted. A model that generates no text has no session: for it, these are the values that the host
    /// would request.
    pub granted: SessionInfo,
    /// Bytes and kind of every token.
    pub vocabulary: Arc<Vocabulary>,
    /// Facts about the model's embeddings. None if it makes none.
    pub embedder: Option<EmbedderInfo>,
}

impl ModelFacts {
    /// Most tokens that prompt and answer may have together.
    pub fn context_length(&self) -> u32 {
        self.granted.context_length.min(self.granted.kv_tokens)
    }

    /// Most tokens of a text to embed. The configured context length limits memory, so it applies here too.
    pub fn longest_embedded(&self, embedder: &EmbedderInfo) -> u32 {
        embedder.max_tokens.min(self.context_length())
    }

    /// Whether only whole sequences can be forked, not their beginnings.
    pub fn forks_whole_only(&self) -> bool {
        !self.granted.fork_any_len
    }

    /// Number of 32-bit words in a mask of tokens: `ceil(logits_width / 32)`.
    pub fn mask_words(&self) -> usize {
        self.info.logits_width.div_ceil(32) as usize
    }
}

/// A model's facts, with its tokenizer.
pub struct TokenizedFacts {
    pub facts: Arc<ModelFacts>,
    /// The tokenizer may keep the model in memory.
    pub tokenizer: Tokenizer,
}

impl Deref for TokenizedFacts {
    type Target = ModelFacts;

    fn deref(&self) -> &ModelFacts {
        &self.facts
    }
}

/// The facts of a model that may be reloaded while it is served. A kept result of [`get`](Current::get) may keep a replaced
/// model in memory.
pub type CurrentFacts = Current<Arc<TokenizedFacts>>;
