use std::{sync::Arc, time::Instant};

use tenon_plugin_api::{SampleParams, TokenBias};

use crate::engine::Scoring;

/// The constant part of a sequence: what its request asked for.
pub struct Request {
    /// Length of the prompt.
    pub prompt_len: usize,
    /// Length at which the sequence ends.
    pub max_len: usize,
    /// Length below which the model cannot end the sequence: the mask is `endless` until then, all but the end tokens.
    pub min_len: usize,
    pub endless: Arc<[u32]>,
    pub params: SampleParams,
    pub bias: Vec<TokenBias>,
    pub seed: u64,
    pub scoring: Option<Scoring>,
    /// Whether the sequence may use cached prefixes of others, and others may use its own.
    pub cache_prompt: bool,
    pub deadline: Option<Instant>,
}

impl Request {
    /// Uniform bits for the token at this position: a function of seed and position only.
    pub fn draw(&self, position: u32) -> u64 {
        mix(mix(self.seed).wrapping_add(position.into()))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection whose output bits all depend on all input bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
