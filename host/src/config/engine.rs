//! `[engine]`: the budget of a model.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Threads;

/// What one model may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// 0 = as long as the model was trained for.
    pub context_length: u32,
    pub max_sequences: u32,
    pub max_cached_sequences: u32,
    /// 0 = the backend decides.
    pub kv_tokens: u32,
    pub max_batch_tokens: u32,
    /// None = no bound.
    pub max_step: Option<Duration>,
    /// 0 = no drafts.
    pub max_draft_tokens: u32,
    pub max_queue: usize,
    pub threads: Threads,
}

/// What each model may use, unless its own entry says otherwise.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawEngine {
    /// Most tokens of prompt and answer together. 0: as many as the model was trained for.
    pub context_length: u32,
    /// Requests that are computed at the same time; more wait in the queue.
    pub max_sequences: NonZeroU32,
    /// Finished requests whose KV is kept for prompts that begin alike, as long as nobody needs the room. 0: none.
    pub max_cached_sequences: u32,
    /// Tokens that fit into the KV cache, shared by all requests. 0: the backend decides.
    pub kv_tokens: u32,
    /// Most tokens computed in one step. Smaller keeps streams smoother while a long prompt is read, larger reads it faster.
    pub max_batch_tokens: NonZeroU32,
    /// Milliseconds that one step may take for the sake of prompts while answers are being generated. 0: no bound.
    pub max_step_ms: u32,
    /// Tokens that are tried at once where a text repeats itself. The answer stays the same. 0: no drafts.
    pub max_draft_tokens: u32,
    /// Requests that may wait. One more is answered with 429.
    pub max_queue: NonZeroU32,
    /// Threads that compute. "auto": as many as are fastest, measured when the model is loaded and watched from then on.
    pub threads: Threads,
}

const DEFAULT_MAX_SEQUENCES: NonZeroU32 = NonZeroU32::new(16).unwrap();
const DEFAULT_MAX_BATCH_TOKENS: NonZeroU32 = NonZeroU32::new(512).unwrap();
const DEFAULT_MAX_QUEUE: NonZeroU32 = NonZeroU32::new(256).unwrap();

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            context_length: 0,
            max_sequences: DEFAULT_MAX_SEQUENCES,
            max_cached_sequences: 16,
            kv_tokens: 0,
            max_batch_tokens: DEFAULT_MAX_BATCH_TOKENS,
            max_step_ms: 200,
            max_draft_tokens: 32,
            max_queue: DEFAULT_MAX_QUEUE,
            threads: Threads::Auto,
        }
    }
}
