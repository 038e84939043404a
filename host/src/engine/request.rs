//! Requests to an engine, in tokens.

mod remaining;

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{SampleParams, TokenBias};

use super::{ClientId, DryOptions};
use crate::{grammar::CompiledGrammar, reasoning_budget::ReasoningBudget};

/// The parameters of a request. They never change, and the request's sequences share them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The client. Clients get fair shares.
    pub client: ClientId,
    /// A client's requests with lower priorities start first. Between clients, a priority below `min_priority` counts as
    /// `min_priority`.
    pub priority: i32,
    /// Time at which the request fails unless it is finished.
    #[serde(with = "remaining")]
    pub deadline: Option<Instant>,
    /// Whether prompts may use the cached prefixes of others, and others may use theirs.
    pub cache_prompt: bool,
    /// Most tokens of an answer; the end of the context may come first. 0 only prefills the prompt, for example to score it.
    pub max_tokens: u32,
    /// Fewest tokens of an answer: the model cannot end it earlier. Ignored if there is a grammar: the grammar decides alone.
    pub min_tokens: u32,
    /// Sampling parameters.
    pub params: SampleParams,
    /// Seed of the random draws. The same seed gives the same draws, whatever else is in the batch.
    pub seed: u64,
    /// Logit bias, added at every step. Each token occurs at most once and is below the vocabulary's size.
    pub bias: Vec<TokenBias>,
    /// Log-probabilities to return with the tokens, if any.
    pub scoring: Option<Scoring>,
}

/// The parts of a request that restrict the next token depending on the tokens so far. Each sequence has its own state of them.
/// `G` is a compiled grammar.
#[derive(Clone, Debug)]
pub struct Steering<G = Arc<CompiledGrammar>> {
    /// DRY, which keeps the sequence from repeating itself. The bias then depends on all earlier tokens.
    pub dry: Option<DryOptions>,
    /// Grammar that the answer must follow.
    pub grammar: Option<G>,
    /// Budget of the answer's reasoning.
    pub reasoning: Option<ReasoningBudget>,
}

impl<G> Default for Steering<G> {
    fn default() -> Self {
        Self {
            dry: None,
            grammar: None,
            reasoning: None,
        }
    }
}

/// The prompt of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokens {
    /// At least one token, and fewer than the context has.
    pub tokens: Vec<u32>,
    /// Lengths of beginnings that later prompts are expected to share, shorter ones first. If the session forks only whole
    /// sequences, each becomes a cached prefix of its own: a checkpoint.
    pub checkpoints: Vec<u32>,
}

/// Which log-probabilities to return.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// How many of the most likely tokens to return at each position.
    pub top: u32,
    /// Whether to score the prompt too, from its second token on. Then no cached prefix is used: all of the prompt is computed.
    pub prompt: bool,
}

impl PromptTokens {
    /// A prompt that later prompts are expected to share only as a whole. Its checkpoint leaves out the last token, which is
    /// always computed.
    pub fn new(tokens: Vec<u32>) -> Self {
        let all_but_one = tokens.len().saturating_sub(1) as u32;
        let checkpoints = vec![all_but_one];
        Self {
            tokens,
            checkpoints,
        }
    }
}

impl Request {
    /// Uniform bits for the token at this position of the sequence with this index.
    pub fn draw(&self, index: u64, position: u32) -> u64 {
        // Multiples of the golden ratio keep the seeds of one request apart from those of a request with the next seed.
        let seed = self.seed.wrapping_add(index.wrapping_mul(GOLDEN_RATIO));
        mix(mix(seed).wrapping_add(position.into()))
    }
}

/// 2^64 divided by the golden ratio.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection whose output bits all depend on all input bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(GOLDEN_RATIO);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
