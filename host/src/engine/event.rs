//! Requests to an engine, and the events that it answers with.

use std::{sync::Arc, time::Instant};

use tenon_plugin_api::{Error, SampleParams, TokenBias, TokenLogprob};

use super::{ClientId, DryOptions, channel::Receiver};
use crate::grammar::{CompiledGrammar, GrammarError};

/// A request for one generation, in tokens.
#[derive(Clone, Debug)]
pub struct Generate {
    /// The client. Clients get fair shares.
    pub client: ClientId,
    /// The prompt: at least one token, shorter than the context.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer; the end of the context may come first. 0 only prefills the prompt, for example to score it.
    pub max_tokens: u32,
    /// Tokens before which the model cannot end the answer. Ignored if there is a grammar: the grammar decides alone.
    pub min_tokens: u32,
    /// Sampling parameters.
    pub params: SampleParams,
    /// Seed of the random draws. The same seed gives the same draws, whatever else is in the batch.
    pub seed: u64,
    /// Logit bias, added at every step. Each token occurs at most once and is below the vocabulary's size.
    pub bias: Vec<TokenBias>,
    /// DRY, which keeps the sequence from repeating itself. The bias then depends on all earlier tokens.
    pub dry: Option<DryOptions>,
    /// Log-probabilities to return with the tokens, if any.
    pub scoring: Option<Scoring>,
    /// A client's requests with lower priorities start first. Between clients, those below `min_priority` count as that.
    pub priority: i32,
    /// Whether this prompt may use the cached prefixes of others, and others may use this one's.
    pub cache_prompt: bool,
    /// Length of the beginning that later prompts are expected to share. That beginning is cached by itself if the session forks
    /// only whole sequences.
    pub cache_at: Option<u32>,
    /// Time at which the request fails unless it is finished.
    pub deadline: Option<Instant>,
    /// Grammar that the answer must follow.
    pub grammar: Option<Arc<CompiledGrammar>>,
}

/// Which log-probabilities to return.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// How many of the most likely tokens to return at each position.
    pub top: u32,
    /// Whether to score the prompt too, from its second token on. Then no cached prefix is used: all of the prompt is computed.
    pub prompt: bool,
}

/// How likely a token was in the model's own distribution: before bias, penalties, temperature and mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The token's own log-probability (natural).
    pub logprob: f32,
    /// The most likely tokens at this position, most likely first.
    pub top: Vec<TokenLogprob>,
}

/// The events of one request as they come. Dropping it cancels the sequence at the next step.
pub struct Generation(pub(super) Receiver<Event>);

impl Generation {
    /// The next event. `Finished` or `Failed` comes before None, except when the process is about to end.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// An event of a sequence.
#[derive(Clone, Debug)]
pub enum Event {
    /// The sequence runs. This event comes first.
    Started {
        /// Tokens of the prompt that need not be computed, because a cached prefix has them.
        cached_tokens: u32,
    },
    /// The next token of the prompt, from its second on, was scored. These events come before the first [`Event::Token`].
    Scored(Box<Logprobs>),
    /// The next token. The token that ends the text is not sent.
    Token {
        token: u32,
        /// None unless the request asked for them.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The last event of a complete answer.
    Finished { reason: FinishReason },
    /// The last event of a failed answer.
    Failed(Failure),
}

/// Why a sequence finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model or the grammar ended the text.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
}

/// Why a sequence failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Backend(#[from] Error),
    /// The sequence's grammar cannot be followed any further.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The sequence was not finished at its deadline.
    #[error(
        "the answer was not ready in time; ask for fewer tokens, or try again when there is less to do"
    )]
    Overdue,
    /// The queue was full when a client with fewer waiting requests came, and this request had not started.
    #[error(
        "too many of your requests are waiting, and others need the place; try again in {retry_after_secs} s"
    )]
    Displaced { retry_after_secs: u64 },
    /// The reader left the channel full for too long.
    #[error("the answer was read too slowly")]
    Unread,
    /// The reader is gone.
    #[error("the client went away")]
    Abandoned,
}

/// Why a request was not queued.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the prompt is empty; send at least one token")]
    EmptyPrompt,
    #[error("the prompt has {prompt} tokens, but the context is {context} tokens long")]
    PromptTooLong { prompt: u32, context: u32 },
    #[error("too many requests are waiting; try again in {retry_after_secs} s")]
    QueueFull { retry_after_secs: u64 },
    #[error("the model stopped: {0}")]
    Stopped(Error),
}
