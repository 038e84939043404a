//! The model thread: loads the model, makes steps while there is work, and reloads the model if the plugin breaks.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tenon_plugin_api::{Error, ModelInfo, SessionInfo};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use super::{
    Embeddings, EngineMetrics, EngineOptions, Failure, Loader, PluginCalls, Sequence,
    audience::Audience, queue::Queue, sequence::Common, step::Stepper, threads::Threads,
};
use crate::plugin::{
    Current, CurrentFacts, CurrentModel, Embedder, ModelFacts, Session, TokenizedFacts,
};

/// State of the model thread before it has a session.
pub struct ModelThread {
    /// Dropped when the engine's last thread ends.
    pub alive: watch::Sender<()>,
    pub inbox: mpsc::Receiver<Sequence>,
    pub loader: Loader,
    pub options: EngineOptions,
    pub queue: Queue,
    pub audience: Arc<Audience>,
    pub calls: PluginCalls,
    pub metrics: EngineMetrics,
    pub failure: Current<Option<Error>>,
    pub model: CurrentModel,
}

/// The result of a load, for the handle. A reload replaces the facts.
#[derive(Clone)]
pub struct Started {
    pub facts: CurrentFacts,
    pub common: Current<Arc<Common>>,
    pub embeddings: Option<Arc<Embeddings>>,
}

/// A loaded model. Its session is in the stepper, and both are None if the model generates no text.
struct Loaded {
    facts: TokenizedFacts,
    embedder: Option<Embedder>,
    stepper: Option<Stepper>,
}

/// When nothing else runs, the time after which a sequence with a slow reader is looked at again.
const READERS_POLL: Duration = Duration::from_millis(5);

impl ModelThread {
    pub fn run(mut self, started: oneshot::Sender<Result<Started, Error>>) {
        let (handle, mut stepper) = match self.start() {
            Ok((handle, stepper)) => (handle, stepper),
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(handle.clone()));
        for reloads in 0.. {
            let Some(mut serving) = stepper else {
                return self.refuse_text();
            };
            let Err(error) = self.serve(&mut serving) else {
                return;
            };
            serving.fail_all(&error);
            self.audience.notify();
            drop(serving);
            stepper = match self.recover(reloads, error, &handle) {
                Ok(stepper) => stepper,
                Err(error) => return self.give_up(error),
            };
        }
    }

    /// Makes steps until every handle is dropped, or until the session breaks.
    fn serve(&mut self, stepper: &mut Stepper) -> Result<(), Error> {
        loop {
            if stepper.scheduler.is_idle() {
                stepper.scheduler.report();
                match self.inbox.recv() {
                    Ok(sequence) => stepper.enqueue(sequence),
                    Err(mpsc::RecvError) => return Ok(()),
                }
            }
            for sequence in self.inbox.try_iter() {
                stepper.enqueue(sequence);
            }
            let is_working = self.calls.steps.time(|| stepper.step())?;
            self.audience.notify();
            if is_working {
                continue;
            }
            match self.inbox.recv_timeout(READERS_POLL) {
                Ok(sequence) => stepper.enqueue(sequence),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // Handles are gone, but the last sequences of a model that is being replaced still run.
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(READERS_POLL),
            }
        }
    }

    /// Fails sequences until every handle is dropped. The routes refuse requests for text before they come here.
    fn refuse_text(&self) {
        for sequence in &self.inbox {
            sequence.fail(Failure::Backend(Error::unsupported("generating text")));
            self.audience.notify();
        }
    }

    fn start(&mut self) -> Result<(Started, Option<Stepper>), Error> {
        let loaded = self.load()?;
        let embeddings = loaded.embedder.map(|embedder| {
            let name = format!(
                "{}, embeddings",
                thread::current().name().unwrap_or_default()
            );
            let (stopwatch, alive) = (self.calls.embeddings.clone(), self.alive.clone());
            Embeddings::start(name, embedder, self.queue.max(), stopwatch, alive).map(Arc::new)
        });
        let started = Started {
            common: Current::new(self.common(&loaded.facts)),
            facts: CurrentFacts::new(Arc::new(loaded.facts)),
            embeddings: embeddings.transpose()?,
        };
        Ok((started, loaded.stepper))
    }

    fn common(&self, facts: &ModelFacts) -> Arc<Common> {
        Arc::new(Common::new(facts, self.options.limits.max_draft_tokens))
    }

    fn load(&mut self) -> Result<Loaded, Error> {
        let model = (self.loader)()?;
        let tokenizer = model.tokenizer()?;
        let vocabulary = Arc::new(tokenizer.vocabulary()?);
        let info = model.info().clone();
        let asked = &self.options.session;
        let session = info.generates_text().then(|| model.session(asked));
        let session = session.transpose()?;
        let granted = match &session {
            Some(session) => *session.info(),
            None => SessionInfo::grant(asked, info.context_length)?,
        };
        let embedder = model.embedder()?;
        let stepper = session.map(|session| self.stepper(session, &info));
        self.model.set(Some(Arc::new(model)));
        Ok(Loaded {
            facts: TokenizedFacts {
                facts: Arc::new(ModelFacts {
                    info,
                    granted,
                    vocabulary,
                    embedder: embedder.as_ref().map(|embedder| embedder.info().clone()),
                }),
                tokenizer,
            },
            embedder,
            stepper,
        })
    }

    fn stepper(&self, mut session: Session, info: &ModelInfo) -> Stepper {
        let pool = session.info().kv_tokens;
        self.metrics.kv_total_tokens.set(pool.into());
        let threads = self.threads(&mut session);
        Stepper::new(
            session,
            info.eos.clone(),
            self.options.limits,
            self.queue.clone(),
            self.audience.clone(),
            threads,
            self.metrics.clone(),
        )
    }

    /// Calibrates the session's threads. None if their number stays as it is.
    fn threads(&self, session: &mut Session) -> Option<Threads> {
        let most = self.options.session.threads;
        self.metrics.set_threads(most, most);
        let calibration = self.options.calibration.as_ref().filter(|_| most > 1)?;
        Threads::calibrate(session, most, calibration, &self.metrics)
    }

    /// Loads the model again. Nothing of the broken one is kept.
    fn recover(
        &mut self,
        reloads: u32,
        error: Error,
        handle: &Started,
    ) -> Result<Option<Stepper>, Error> {
        if reloads >= self.options.max_reloads {
            return Err(error);
        }
        self.model.set(None);
        warn!("the backend broke ({error}); loading the model anew");
        let loaded = self.load()?;
        handle.common.set(self.common(&loaded.facts));
        handle.facts.set(Arc::new(loaded.facts));
        if let Some((embeddings, embedder)) = handle.embeddings.as_ref().zip(loaded.embedder) {
            embeddings.replace(embedder);
        }
        Ok(loaded.stepper)
    }

    /// Stores the reason for later callers, and fails the requests that have arrived.
    fn give_up(mut self, error: Error) {
        self.model.set(None);
        self.failure.set(Some(error.clone()));
        self.metrics.ended();
        error!("the model stopped: {error}");
        for sequence in self.inbox.try_iter() {
            sequence.fail(Failure::Backend(error.clone()));
        }
    }
}
