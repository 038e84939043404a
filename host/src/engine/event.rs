//! The events that an engine answers a request with.

use std::{sync::mpsc::TryRecvError, time::Duration};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Error, TokenLogprob};

use super::channel::Receiver;
use crate::grammar::GrammarError;

/// How likely a token was in the model's own distribution: before bias, penalties, temperature and mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logprobs {
    /// The token's own log-probability (natural).
    pub logprob: f32,
    /// The most likely tokens at this position, most likely first.
    pub top: Vec<TokenLogprob>,
}

/// The events of one sequence as they come. Dropping them cancels the sequence: during the running step if no other reader waits
/// for that step, otherwise at the next one.
pub struct Generation {
    events: Receiver<Event>,
    place: Box<dyn ReaderPlace>,
}

/// The place of a reader, as the side that sends the events sees it.
pub trait ReaderPlace: Send {
    /// The reader took an event.
    fn took(&mut self) {}

    /// The reader has left, whether it has read all events or not.
    fn left(&mut self);
}

impl Generation {
    /// Reads `events`. `place` is told what the reader does.
    pub fn new(events: Receiver<Event>, place: impl ReaderPlace + 'static) -> Self {
        let place = Box::new(place);
        Self { events, place }
    }

    /// The next event. `Finished` or `Failed` comes before None, except when the process is about to end.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        self.place.took();
        Some(event)
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// `Empty`: there is none now. `Disconnected`: there will be none any more.
    pub fn try_next(&mut self) -> Result<Event, TryRecvError> {
        let event = self.events.try_recv()?;
        self.place.took();
        Ok(event)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.place.left();
    }
}

/// An event of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The sequence runs. This event comes first.
    Started {
        /// Tokens of the prompt that need not be computed, because a cached prefix has them.
        cached_tokens: u32,
        /// How long the sequence waited.
        queued: Duration,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model or the grammar ended the text.
    Stop,
    /// `max_tokens` or the context length was reached.
    Length,
}

/// Why a sequence failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why texts were not embedded.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum EmbeddingError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a request was not queued.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Serialize, Deserialize)]
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
