//! `[engine]`: the budget of a model.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one model may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// 0 = as long as the model was trained for.
    pub context_length: u32,
    pub max_sequences: u32,
    /// 0 = the backend decides.
    pub kv_tokens: u32,
    pub max_batch_tokens: u32,
    pub max_queue: usize,
    /// 0 = as many as the machine has.
    pub threads: u32,
}

/// What each model may use, unless its own entry says otherwise.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawEngine {
    /// Most tokens of prompt and answer together. 0: as many as the model was trained for.
    pub context_length: u32,
    /// Requests that are computed at the same time; more wait in the queue.
    pub max_sequences: NonZeroU32,
    /// Tokens that fit into the KV cache, shared by all requests. 0: the backend decides.
    pub kv_tokens: u32,
    /// Most tokens computed in one step. Smaller keeps streams smoother while a long prompt is read, larger reads it faster.
    pub max_batch_tokens: NonZeroU32,
    /// Requests that may wait. One more is answered with 429.
    pub max_queue: NonZeroU32,
    /// Threads that compute. 0: as many as the machine has.
    pub threads: u32,
}

const DEFAULT_MAX_SEQUENCES: NonZeroU32 = NonZeroU32::new(16).unwrap();
const DEFAULT_MAX_BATCH_TOKENS: NonZeroU32 = NonZeroU32::new(512).unwrap();
const DEFAULT_MAX_QUEUE: NonZeroU32 = NonZeroU32::new(256).unwrap();

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            context_length: 0,
            max_sequences: DEFAULT_MAX_SEQUENCES,
            kv_tokens: 0,
            max_batch_tokens: DEFAULT_MAX_BATCH_TOKENS,
            max_queue: DEFAULT_MAX_QUEUE,
            threads: 0,
        }
    }
}
