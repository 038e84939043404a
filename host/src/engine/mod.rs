//! The engine: one thread for each model, and the handle through which the rest of the host uses it.
//!
//! The thread owns the plugin's session and every sequence (`model_thread.rs`). Its loop is `step()` in `step.rs`: schedule →
//! forward → sample → settle. Requests reach the thread over one channel. Tokens leave it over one channel per sequence.
//!
//! A model that makes embeddings has a second thread for them (`embeddings.rs`).
//!
//! Invariant: nothing here knows HTTP, text or templates. Tokens go in, tokens come out.

mod admission;
mod audience;
mod channel;
mod constraint;
mod draft;
mod dry;
mod embeddings;
mod event;
mod kv_pool;
mod metrics;
mod model_thread;
mod options;
mod picks;
mod plan;
mod plugin_calls;
mod prefill;
mod prefix_cache;
mod queue;
mod request;
mod scheduler;
mod sequence;
mod shares;
mod step;
mod step_cost;
#[cfg(test)]
mod tests;
mod threads;
mod token_counts;

use std::{
    sync::{Arc, mpsc},
    thread,
};

use tenon_plugin_api::{Code, Error};
use tokio::sync::{oneshot, watch};

use crate::plugin::{Current, CurrentFacts, CurrentModel};

use audience::Audience;
pub use channel::{Sender, channel};
pub use dry::DryOptions;
use embeddings::{Embedding, Embeddings};
pub use event::{
    EmbeddingError, Event, Failure, FinishReason, Generation, Logprobs, ReaderPlace, SubmitError,
};
pub use metrics::EngineMetrics;
use model_thread::ModelThread;
pub use options::{EngineLimits, EngineOptions, Loader, OnEvents};
pub use plugin_calls::{LONGEST, PluginCalls};
use queue::Queue;
pub use request::{PromptTokens, Request, Scoring, Steering};
use sequence::{Common, MAX_EVENTS, Reader, Sequence};
pub use shares::ClientId;
use shares::Origin;
pub use threads::Calibration;

/// Handle of a running model. Clones are cheap and use the same thread. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<HandleState>,
    arrivals: mpsc::Sender<Sequence>,
}

/// State that the handle shares with the model thread.
struct HandleState {
    common: Current<Arc<Common>>,
    embeddings: Option<Arc<Embeddings>>,
    queue: Queue,
    audience: Arc<Audience>,
    calls: PluginCalls,
    /// Why the thread ended. Empty while it runs.
    failure: Current<Option<Error>>,
    model: CurrentModel,
    end: EngineEnd,
}

/// Tells when an engine has ended: its thread, its session and its model are gone.
#[derive(Clone)]
pub struct EngineEnd(watch::Receiver<()>);

impl EngineEnd {
    /// An end that comes when the sender of this receiver is dropped.
    pub fn new(alive: watch::Receiver<()>) -> Self {
        Self(alive)
    }

    /// Whether the engine has ended.
    pub fn has_come(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until the engine has ended.
    pub async fn wait(mut self) {
        // Nothing is ever sent; the channel only closes.
        while self.0.changed().await.is_ok() {}
    }
}

impl Engine {
    /// Loads the model and starts its thread. Blocks until the session is ready. Also returns facts about the model.
    pub fn start(
        mut options: EngineOptions,
        loader: Loader,
        metrics: EngineMetrics,
        on_events: OnEvents,
    ) -> Result<(Self, CurrentFacts), Error> {
        let (arrivals, inbox) = mpsc::channel();
        let (started, ready) = oneshot::channel();
        let failure = Current::default();
        let queue = Queue::new(options.max_queue);
        let audience = Arc::new(Audience::new(on_events));
        options.session.interrupt = audience.interrupt();
        let (model, calls) = (CurrentModel::default(), PluginCalls::default());
        let (alive, end) = watch::channel(());
        let name = options.name.clone();
        let model_thread = ModelThread {
            alive: alive.clone(),
            inbox,
            loader,
            options,
            queue: queue.clone(),
            audience: audience.clone(),
            calls: calls.clone(),
            metrics,
            failure: failure.clone(),
            model: model.clone(),
        };
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                model_thread.run(started);
                // The model and its session are gone by now.
                drop(alive);
            })
            .map_err(|e| Error::new(Code::INTERNAL, e.to_string()))?;
        let started = ready.blocking_recv().map_err(|_| ended(&failure))??;
        let shared = HandleState {
            common: started.common,
            embeddings: started.embeddings,
            queue,
            audience,
            calls,
            failure,
            model,
            end: EngineEnd(end),
        };
        let engine = Self {
            shared: Arc::new(shared),
            arrivals,
        };
        Ok((engine, started.facts))
    }

    /// Queues a sequence for each of a request's prompts, or none of them. Prompts that begin alike share the common prefix.
    /// Never blocks.
    pub fn submit(
        &self,
        request: &Arc<Request>,
        steering: &Steering,
        prompts: Vec<PromptTokens>,
    ) -> Result<Vec<Generation>, SubmitError> {
        for prompt in &prompts {
            self.check(&prompt.tokens)?;
        }
        let tickets = self.shared.queue.enter(request.client, prompts.len())?;
        let first = tickets.first().map_or(0, |ticket| ticket.number);
        let queued = prompts.into_iter().zip(tickets);
        queued
            .map(|(prompt, ticket)| {
                let (sender, events) = channel(MAX_EVENTS);
                let seat = self.shared.audience.seat();
                let reader = Reader::new(sender, seat.clone());
                let (request, steering) = (request.clone(), steering.clone());
                let origin = Origin {
                    client: request.client,
                    request: first,
                    arrival: ticket.number,
                    priority: request.priority,
                };
                let common = self.shared.common.get();
                let sequence =
                    Sequence::new(request, prompt, steering, &common, origin, ticket, reader);
                let sent = self.arrivals.send(sequence);
                // A thread that is about to end may leave sequences in its inbox. It has stored the reason before.
                match self.shared.failure.get() {
                    None if sent.is_ok() => Ok(Generation::new(events, seat)),
                    _ => Err(SubmitError::Stopped(ended(&self.shared.failure))),
                }
            })
            .collect()
    }

    fn check(&self, prompt: &[u32]) -> Result<(), SubmitError> {
        let context = self.shared.common.get().context_length;
        match prompt.len() as u32 {
            0 => Err(SubmitError::EmptyPrompt),
            // At least one token of the context is left for an answer.
            prompt if prompt >= context => Err(SubmitError::PromptTooLong { prompt, context }),
            _ => Ok(()),
        }
    }

    /// Queues a client's texts to be embedded. Each has 1 to `max_tokens` known tokens. Never blocks.
    pub fn embed(&self, client: ClientId, texts: Vec<Vec<u32>>) -> Result<Embedding, SubmitError> {
        let embeddings = self.shared.embeddings.as_ref();
        let none = || SubmitError::Stopped(Error::unsupported("embeddings"));
        embeddings.ok_or_else(none)?.submit(client, texts)
    }

    /// The plugin's model, for requantizing it.
    pub fn model(&self) -> CurrentModel {
        self.shared.model.clone()
    }

    /// The end of the engine: it comes after the last handle is dropped and the last sequence has ended.
    pub fn end(&self) -> EngineEnd {
        self.shared.end.clone()
    }

    /// Why the model no longer serves. None while it does.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure.get()
    }

    /// Waits until the model no longer serves. Never ready if it ends as intended.
    pub fn failed(&self) -> impl Future<Output = Error> + Send + use<> {
        self.shared.failure.clone().filled()
    }

    /// The calls of the plugin that the engine's threads make.
    pub fn plugin_calls(&self) -> PluginCalls {
        self.shared.calls.clone()
    }
}

fn ended(failure: &Current<Option<Error>>) -> Error {
    failure
        .get()
        .unwrap_or_else(|| Error::new(Code::INTERNAL, "the model's thread ended unexpectedly"))
}
