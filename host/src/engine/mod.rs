//! The engine: one thread for each model, and the handle that the rest of the host has of it.
//!
//! The thread owns the plugin's session and every sequence (`worker.rs`); its loop is `step()` in `step.rs`:
//! schedule → forward → sample → settle. Requests reach it over a channel, tokens leave it over one channel per sequence.
//!
//! A model that makes embeddings has a second thread for them (`embeddings.rs`).
//!
//! Invariant: nothing here knows HTTP, text or templates. Tokens go in, tokens come out.

mod channel;
mod constraint;
mod current;
mod draft;
mod dry;
mod embeddings;
mod event;
mod kv_pool;
mod metrics;
mod picks;
mod plan;
mod prefix_cache;
mod queue;
mod scheduler;
mod sequence;
mod step;
mod step_cost;
mod threads;
mod token_counts;
mod worker;

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use tenon_plugin_api::{EncodeFlags, Error, ModelInfo, SessionArgs, SessionInfo, Vocabulary};
use tokio::sync::{oneshot, watch};

use crate::plugin::{Model, Tokenizer};

use channel::channel;
pub use current::CurrentModel;
pub use dry::DryOptions;
pub use embeddings::Embeddings;
pub use event::{
    Event, Failure, FinishReason, Generate, Generation, Logprobs, Scoring, SubmitError,
};
pub use metrics::EngineMetrics;
use queue::Queue;
use sequence::{MAX_EVENTS, Sequence};
pub use threads::Calibration;
use worker::Worker;

/// Loads the model: at the start, and once more if the plugin panics or loses its device.
pub type Loader = Box<dyn FnMut() -> Result<Model, Error> + Send>;

/// What an engine is started with.
#[derive(Clone)]
pub struct EngineOptions {
    /// Names the thread.
    pub name: String,
    /// What to ask of the plugin's session.
    pub session: SessionArgs,
    /// Requests that may wait; one more is refused.
    pub max_queue: usize,
    /// How the steps are made.
    pub limits: EngineLimits,
    /// To find out how many of the session's threads, and which way of waiting, are the fastest. None: they stay as they are.
    pub calibration: Option<Arc<Calibration>>,
}

/// What one step may take, and one sequence of it.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Sequences that run at the same time. What the session has beyond them holds prefixes for reuse.
    pub max_running: u32,
    /// Longest draft. 0: no drafts.
    pub max_draft_tokens: u32,
    /// How long a prompt may make those wait who are decoding. None: as long as a full batch takes.
    pub max_step: Option<Duration>,
    /// How long a reader may leave no room for events.
    pub write_timeout: Duration,
}

/// A running model. Clones are cheap and talk to the same thread, which ends when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Sequence>,
}

/// What the handle and the model thread both know.
struct Shared {
    info: ModelInfo,
    granted: SessionInfo,
    vocabulary: Arc<Vocabulary>,
    tokenizer: Arc<Tokenizer>,
    embeddings: Option<Embeddings>,
    queue: Queue,
    max_draft_tokens: u32,
    /// Why the thread ended, once it has.
    failure: Arc<OnceLock<Error>>,
    model: CurrentModel,
    end: End,
}

/// The end of an engine: of its thread, its session and its model.
#[derive(Clone)]
pub struct End(watch::Receiver<()>);

impl End {
    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits for it.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the channel closes.
        while self.0.changed().await.is_ok() {}
    }
}

impl Engine {
    /// Loads the model and starts its thread. Blocks until the session stands.
    pub fn start(
        options: EngineOptions,
        loader: Loader,
        metrics: EngineMetrics,
    ) -> Result<Self, Error> {
        let (arrivals, inbox) = mpsc::channel();
        let (started, ready) = oneshot::channel();
        let failure = Arc::new(OnceLock::new());
        let queue = Queue::new(options.max_queue);
        let model = CurrentModel::default();
        let (alive, end) = watch::channel(());
        let also_alive = alive.clone();
        let worker = Worker {
            inbox,
            loader,
            session_args: options.session,
            limits: options.limits,
            queue: queue.clone(),
            calibration: options.calibration,
            metrics,
            failure: failure.clone(),
            model: model.clone(),
        };
        thread::Builder::new()
            .name(options.name.clone())
            .spawn(move || {
                worker.run(started);
                // Nothing of the model is left on this thread.
                drop(alive);
            })
            .map_err(|e| Error::new(tenon_plugin_api::Code::INTERNAL, e.to_string()))?;
        let started = ready.blocking_recv().map_err(|_| ended(&failure))??;
        let embeddings = started.embedder.map(|embedder| {
            let name = format!("{}, embeddings", options.name);
            Embeddings::start(name, embedder, options.max_queue, also_alive)
        });
        Ok(Self {
            shared: Arc::new(Shared {
                info: started.info,
                granted: started.granted,
                vocabulary: Arc::new(started.vocabulary),
                tokenizer: Arc::new(started.tokenizer),
                embeddings: embeddings.transpose()?,
                queue,
                max_draft_tokens: options.limits.max_draft_tokens,
                failure,
                model,
                end: End(end),
            }),
            arrivals,
        })
    }

    /// Queues a request. Never blocks.
    pub fn submit(&self, request: Generate) -> Result<Generation, SubmitError> {
        let mut generations = self.submit_all(vec![request])?;
        // One request, one generation.
        generations.pop().ok_or(SubmitError::EmptyPrompt)
    }

    /// Queues several requests, or none of them. Those that begin alike share what they have in common. Never blocks.
    pub fn submit_all(&self, requests: Vec<Generate>) -> Result<Vec<Generation>, SubmitError> {
        for request in &requests {
            self.check(&request.prompt)?;
        }
        let tickets = self.shared.queue.enter(requests.len())?;
        let queued = requests.into_iter().zip(tickets);
        queued
            .map(|(request, ticket)| {
                let (events, generation) = channel(MAX_EVENTS);
                let max_draft = self.shared.max_draft_tokens;
                let context = self.context_length();
                let sequence = Sequence::new(request, context, max_draft, ticket, events);
                self.arrivals
                    .send(sequence)
                    .map_err(|_| SubmitError::Stopped(ended(&self.shared.failure)))?;
                Ok(Generation(generation))
            })
            .collect()
    }

    fn check(&self, prompt: &[u32]) -> Result<(), SubmitError> {
        let context = self.context_length();
        match prompt.len() as u32 {
            0 => Err(SubmitError::EmptyPrompt),
            // One place is left for an answer.
            prompt if prompt >= context => Err(SubmitError::PromptTooLong { prompt, context }),
            _ => Ok(()),
        }
    }

    /// Longest that prompt and answer together may become, in tokens.
    pub fn context_length(&self) -> u32 {
        let granted = &self.shared.granted;
        granted.context_length.min(granted.kv_tokens)
    }

    /// Most requests that may wait at the same time.
    pub fn max_queue(&self) -> usize {
        self.shared.queue.max()
    }

    /// Facts about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// Bytes and kind of every token.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.shared.vocabulary
    }

    /// The model's tokenizer. Whoever keeps it may keep the model in memory.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.shared.tokenizer
    }

    /// Text to tokens.
    pub fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Error> {
        self.shared.tokenizer.encode(text, flags)
    }

    /// What makes embeddings with the model, if it can.
    pub fn embeddings(&self) -> Option<&Embeddings> {
        self.shared.embeddings.as_ref()
    }

    /// Tokens that fit into the KV pool.
    pub fn kv_tokens(&self) -> u32 {
        self.shared.granted.kv_tokens
    }

    /// The plugin's model, to make another one of it at another level.
    pub fn model(&self) -> CurrentModel {
        self.shared.model.clone()
    }

    /// What comes when the last handle is dropped and the last sequence has ended.
    pub fn end(&self) -> End {
        self.shared.end.clone()
    }

    /// Why the model does not serve any more, if so.
    pub fn failure(&self) -> Option<&Error> {
        self.shared.failure.get()
    }
}

fn ended(failure: &OnceLock<Error>) -> Error {
    failure.get().cloned().unwrap_or_else(|| {
        Error::new(
            tenon_plugin_api::Code::INTERNAL,
            "the model's thread ended unexpectedly",
        )
    })
}
