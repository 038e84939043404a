//! What an engine is asked for, in tokens.

use std::{sync::Arc, time::Instant};

use tenon_plugin_api::{SampleParams, TokenBias};

use super::{ClientId, DryOptions};
use crate::grammar::CompiledGrammar;

/// What a request asks of each of its sequences. It never changes, and the sequences share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client. Clients get fair shares.
    pub client: ClientId,
    /// A client's requests with lower priorities start first. Between clients, those below `min_priority` count as that.
    pub priority: i32,
    /// Time at which the request fails unless it is finished.
    pub deadline: Option<Instant>,
    /// Whether prompts may use the cached prefixes of others, and others may use theirs.
    pub cache_prompt: bool,
    /// Most tokens of an answer; the end of the context may come first. 0 only prefills the prompt, for example to score it.
    pub max_tokens: u32,
    /// Tokens before which the model cannot end the answer. Ignored if there is a grammar: the grammar decides alone.
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

/// What makes tokens possible or less likely, depending on the tokens before them. Each sequence has its own state of it.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    /// DRY, which keeps the sequence from repeating itself. The bias then depends on all earlier tokens.
    pub dry: Option<DryOptions>,
    /// Grammar that the answer must follow.
    pub grammar: Option<Arc<CompiledGrammar>>,
}

/// A prompt, with which a sequence begins.
#[derive(Clone, Debug)]
pub struct PromptTokens {
    /// At least one token, and fewer than the context has.
    pub tokens: Vec<u32>,
    /// Length of the beginning that later prompts are expected to share. That beginning is kept by itself if the session forks
    /// only whole sequences.
    pub keep_at: Option<u32>,
}

/// Which log-probabilities to return.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// How many of the most likely tokens to return at each position.
    pub top: u32,
    /// Whether to score the prompt too, from its second token on. Then no cached prefix is used: all of the prompt is computed.
    pub prompt: bool,
}
