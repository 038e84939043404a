//! `[engine]`: the limits of each model.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Threads, bounded::Bounded, by_name::by_name};

/// Most tokens of a KV pool: host and plugin keep records of each token. Several times what the largest machines have room
/// for.
pub const MAX_KV_TOKENS: u32 = 16 << 20;
/// Most sequences that run at the same time, and most that are kept in the cache.
pub const MAX_SEQUENCES: u32 = 4096;
/// Most tokens in one step.
pub const MAX_BATCH_TOKENS: u32 = 128 << 10;

pub type ContextLength = Bounded<0, MAX_KV_TOKENS>;
pub type Sequences = Bounded<1, MAX_SEQUENCES>;
pub type CachedSequences = Bounded<0, MAX_SEQUENCES>;
pub type KvTokens = Bounded<0, MAX_KV_TOKENS>;
pub type BatchTokens = Bounded<1, MAX_BATCH_TOKENS>;
pub type DraftTokens = Bounded<0, 1024>;
pub type QueueLength = Bounded<1, 65_536>;
pub type StuckSeconds = Bounded<0, 86_400>;
/// Seconds of a load.
pub type LoadSeconds = Bounded<1, 86_400>;
pub type Restarts = Bounded<0, 1000>;

/// Where a model computes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In a process of its own, a worker. If its plugin crashes, only that worker ends, and it is started again.
    #[default]
    Process,
    /// In the server's process. A crash of its plugin ends the server.
    None,
}

/// When a model is loaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// When the server starts.
    #[default]
    Startup,
    /// When the first request for it arrives, which waits for it.
    OnDemand,
}

/// What a plugin in a worker may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Read its own folder, that of its model and the system's libraries, use devices, and write its cache directory. No network.
    #[default]
    Strict,
    /// Whatever the server's user may do.
    Off,
}

/// The limits of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// 0: as long as the model was trained for.
    pub context_length: u32,
    pub max_sequences: u32,
    pub max_cached_sequences: u32,
    /// 0: the backend decides.
    pub kv_tokens: u32,
    pub max_batch_tokens: u32,
    /// None: no bound.
    pub max_step: Option<Duration>,
    /// 0: no drafts.
    pub max_draft_tokens: u32,
    pub max_queue: usize,
    pub requests: RequestBounds,
    pub threads: Threads,
    pub isolation: Isolation,
    pub sandbox: Sandbox,
    pub stuck_timeout: Option<Duration>,
    pub load_timeout: Duration,
    pub max_restarts: u32,
    pub load: Load,
    /// None: an idle model stays loaded.
    pub idle_unload: Option<Duration>,
}

impl Engine {
    /// Whether a request loads the model if it is not loaded.
    pub fn loads_on_request(&self) -> bool {
        self.load == Load::OnDemand || self.idle_unload.is_some()
    }

    /// Most restarts of the model's worker within ten minutes. None: the model has no worker.
    pub fn max_restarts(&self) -> Option<u32> {
        (self.isolation == Isolation::Process).then_some(self.max_restarts)
    }
}

/// The limits of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestBounds {
    /// None: as many as may wait.
    pub max_answers: Option<u32>,
    /// None: up to the end of the context.
    pub max_output_tokens: Option<u32>,
    /// Between clients, lower priorities count as this one.
    pub min_priority: i32,
}

/// The limits of each model, unless its own entry in `[[models]]` says otherwise.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawEngine {
    /// Most tokens of prompt and answer together. 0: as many as the model was trained for.
    pub context_length: ContextLength,
    /// Requests that are computed at the same time. More wait in the queue.
    pub max_sequences: Sequences,
    /// Finished requests whose KV is kept for prompts with the same prefix, as long as no running request needs the room.
    /// 0: none.
    pub max_cached_sequences: CachedSequences,
    /// Tokens that fit into the KV cache, shared by all requests. 0: the backend decides.
    pub kv_tokens: KvTokens,
    /// Most tokens computed in one step. A smaller number keeps streams smoother during the prefill of a long prompt, a
    /// larger one makes prefill faster.
    pub max_batch_tokens: BatchTokens,
    /// Milliseconds that one step may take for prefill while answers are being generated. 0: no bound.
    pub max_step_ms: u32,
    /// Most tokens of a draft: where a text repeats itself, its continuation is guessed and verified in one step (speculative
    /// decoding). The answer stays the same. 0: no drafts.
    pub max_draft_tokens: DraftTokens,
    /// Requests that may wait. One more is answered with 429, unless another client has more requests waiting: then the
    /// youngest of those is answered with 429.
    pub max_queue: QueueLength,
    /// Most answers that a request may ask for: `n` or `best_of` for each of its prompts. 0: as many as may wait.
    pub max_answers: u32,
    /// Most tokens of an answer, also for a request that states no number. A request for more is refused. 0: up to the end
    /// of the context.
    pub max_output_tokens: u32,
    /// Lowest `priority` that counts between clients. Lower ones count as this one there, and only order the requests of
    /// the same client.
    pub min_priority: i32,
    /// Threads that compute. "auto": as many as are fastest, measured when the model is loaded and watched from then on.
    pub threads: Threads,
    /// Where a model computes: in a process of its own, or in the server's process.
    #[serde(deserialize_with = "by_name")]
    pub isolation: Isolation,
    /// What a plugin may do to the machine, as far as the kernel can restrict it. Only with `isolation = "process"`. Plugins are
    /// tried out in the strict sandbox, unless that of a model is off.
    #[serde(deserialize_with = "by_name")]
    pub sandbox: Sandbox,
    /// Seconds after which a running step, embedding, or call of the tokenizer counts as stuck, or a worker that does not answer: the
    /// model's worker is ended and started again. 0: a thousand times the longest step of the model so far, at least 60 and at most 300
    /// seconds; for an answer 300. Only with `isolation = "process"`.
    pub stuck_timeout_secs: StuckSeconds,
    /// Seconds without a report of its progress after which a load, or a change of level, counts as stuck: it fails, and its worker is
    /// ended. Only with `isolation = "process"`.
    pub load_timeout_secs: LoadSeconds,
    /// How many times within ten minutes a model whose worker ended is started again. After that it stays down. Only with
    /// `isolation = "process"`.
    pub max_restarts: Restarts,
    /// When a model is loaded: when the server starts, or when the first request for it arrives.
    #[serde(deserialize_with = "by_name")]
    pub load: Load,
    /// Seconds without a request after which a model is unloaded. The next request loads it again. 0: never.
    pub idle_unload_secs: u32,
}

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            context_length: Bounded::new(0),
            max_sequences: Bounded::new(16),
            max_cached_sequences: Bounded::new(16),
            kv_tokens: Bounded::new(0),
            max_batch_tokens: Bounded::new(512),
            max_step_ms: 200,
            max_draft_tokens: Bounded::new(32),
            max_queue: Bounded::new(256),
            max_answers: 0,
            max_output_tokens: 0,
            min_priority: 0,
            threads: Threads::Auto,
            isolation: Isolation::default(),
            sandbox: Sandbox::default(),
            stuck_timeout_secs: Bounded::new(0),
            load_timeout_secs: Bounded::new(600),
            max_restarts: Bounded::new(5),
            load: Load::default(),
            idle_unload_secs: 0,
        }
    }
}
