//! What goes into an engine and what comes out.

use std::{sync::Arc, time::Instant};

use tenon_plugin_api::{Error, SampleParams, TokenBias, TokenLogprob};

use super::{DryOptions, channel::Receiver};
use crate::grammar::{CompiledGrammar, GrammarError};

/// A request, in tokens.
#[derive(Clone, Debug)]
pub struct Generate {
    /// At least one token, shorter than the context.
    pub prompt: Vec<u32>,
    /// The end of the context may come first. 0 only puts the prompt in, which is of use to score it.
    pub max_tokens: u32,
    /// How to choose tokens.
    pub params: SampleParams,
    /// The same seed gives the same draws, alone or in a crowd.
    pub seed: u64,
    /// Added to the logits at every step. Each token at most once, below the vocabulary's size.
    pub bias: Vec<TokenBias>,
    /// What keeps the sequence from repeating itself: the bias then depends on all tokens before.
    pub dry: Option<DryOptions>,
    /// Whether tokens come with their log-probabilities.
    pub scoring: Option<Scoring>,
    /// Requests with a lower one are begun first.
    pub priority: i32,
    /// Whether what is stored of other prompts may be used for this one, and of this one for others.
    pub cache_prompt: bool,
    /// When it has to be finished.
    pub deadline: Option<Instant>,
    /// What the answer must look like.
    pub grammar: Option<Arc<CompiledGrammar>>,
}

/// Which log-probabilities are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// How many of the most likely tokens at each place.
    pub top: u32,
    /// Whether those of the prompt, from its second token on, are wanted too. Then all of it is computed.
    pub prompt: bool,
}

/// How likely a token was in the model's own distribution: before bias, penalties, temperature and mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The token's own log-probability (natural).
    pub logprob: f32,
    /// The most likely tokens at its place, most likely first.
    pub top: Vec<TokenLogprob>,
}

/// The answer as it comes. Dropping it cancels the sequence at the next step.
pub struct Generation(pub(super) Receiver<Event>);

impl Generation {
    /// The next event. None never comes before `Finished` or `Failed`, except when the process is about to end.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// What a sequence sends.
#[derive(Clone, Debug)]
pub enum Event {
    /// The sequence runs. Comes first.
    Started {
        /// Tokens of the prompt that need not be computed.
        cached_tokens: u32,
    },
    /// The next token of the prompt, from its second on, was scored. These come before the first [`Event::Token`].
    Scored(Box<Logprobs>),
    /// The next token. The one that ends the text is not sent.
    Token {
        token: u32,
        /// Only if asked for.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The last event of a complete answer.
    Finished { reason: FinishReason },
    /// The last event of a failed one.
    Failed(Failure),
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// Why a sequence ended without an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Backend(#[from] Error),
    /// Its grammar cannot be followed any further.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// It was not finished at its deadline.
    #[error(
        "the answer was not ready in time; ask for fewer tokens, or try again when there is less to do"
    )]
    Overdue,
    /// Its events were not read.
    #[error("the answer was read too slowly")]
    Unread,
    /// Nobody listens.
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
