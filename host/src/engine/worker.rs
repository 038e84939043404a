//! The model thread: loads, steps while there is work, and loads anew once if the plugin breaks.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use tenon_plugin_api::{Error, ModelInfo, SessionArgs, SessionInfo, Vocabulary};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{
    EngineLimits, EngineMetrics, Failure, Loader, Sequence,
    current::CurrentModel,
    queue::Queue,
    step::Stepper,
    threads::{Calibration, Threads},
};
use crate::plugin::{Embedder, Session, Tokenizer};

/// What the thread is made of before it has a session.
pub struct Worker {
    pub inbox: mpsc::Receiver<Sequence>,
    pub loader: Loader,
    pub session_args: SessionArgs,
    pub limits: EngineLimits,
    pub queue: Queue,
    pub calibration: Option<Arc<Calibration>>,
    pub metrics: EngineMetrics,
    pub failure: Arc<OnceLock<Error>>,
    pub model: CurrentModel,
}

/// What the handle learns from a model that stands.
pub struct Started {
    pub info: ModelInfo,
    pub granted: SessionInfo,
    pub vocabulary: Vocabulary,
    pub tokenizer: Tokenizer,
    pub embedder: Option<Embedder>,
}

/// How soon a sequence goes on whose reader was slow, if nothing else runs.
const READERS_POLL: Duration = Duration::from_millis(5);

/// How often a broken plugin is loaded anew.
const MAX_RELOADS: u32 = 1;

impl Worker {
    pub fn run(mut self, started: oneshot::Sender<Result<Started, Error>>) {
        let mut stepper = match self.load() {
            Ok((facts, stepper)) => {
                let _ = started.send(Ok(facts));
                stepper
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        for reloads in 0.. {
            let Err(error) = self.serve(&mut stepper) else {
                return;
            };
            stepper.fail_all(&error);
            drop(stepper);
            stepper = match self.recover(reloads, error) {
                Ok(stepper) => stepper,
                Err(error) => return self.give_up(error),
            };
        }
    }

    /// Steps until nobody has a handle any more, or the session breaks.
    fn serve(&mut self, stepper: &mut Stepper) -> Result<(), Error> {
        loop {
            if stepper.scheduler.is_idle() {
                stepper.scheduler.report();
                match self.inbox.recv() {
                    Ok(sequence) => stepper.scheduler.enqueue(sequence),
                    Err(mpsc::RecvError) => return Ok(()),
                }
            }
            for sequence in self.inbox.try_iter() {
                stepper.scheduler.enqueue(sequence);
            }
            if stepper.step()? {
                continue;
            }
            match self.inbox.recv_timeout(READERS_POLL) {
                Ok(sequence) => stepper.scheduler.enqueue(sequence),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // The last sequences of a model that is being replaced.
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(READERS_POLL),
            }
        }
    }

    fn load(&mut self) -> Result<(Started, Stepper), Error> {
        let model = (self.loader)()?;
        let tokenizer = model.tokenizer()?;
        let vocabulary = tokenizer.vocabulary()?;
        let mut session = model.session(&self.session_args)?;
        let embedder = model.embedder()?;
        let info = model.info().clone();
        let granted = *session.info();
        self.metrics.kv_total_tokens.set(granted.kv_tokens.into());
        let threads = self.threads(&mut session);
        let stepper = Stepper::new(
            session,
            info.eos.clone(),
            self.limits,
            self.queue.clone(),
            threads,
            self.metrics.clone(),
        );
        let started = Started {
            info,
            granted,
            vocabulary,
            tokenizer,
            embedder,
        };
        self.model.set(model);
        Ok((started, stepper))
    }

    /// None where their number stays what it is.
    fn threads(&self, session: &mut Session) -> Option<Threads> {
        let most = self.session_args.threads;
        self.metrics.set_threads(most, most);
        let calibration = self.calibration.as_ref().filter(|_| most > 1)?;
        Threads::calibrate(session, most, calibration, &self.metrics)
    }

    fn recover(&mut self, reloads: u32, error: Error) -> Result<Stepper, Error> {
        if reloads >= MAX_RELOADS {
            return Err(error);
        }
        self.model.clear();
        warn!("the backend broke ({error}); loading the model anew");
        self.load().map(|(_, stepper)| stepper)
    }

    /// Leaves the reason behind and answers what still arrives.
    fn give_up(mut self, error: Error) {
        self.model.clear();
        let _ = self.failure.set(error.clone());
        self.metrics.ended();
        error!("the model stopped: {error}");
        for sequence in self.inbox.try_iter() {
            sequence.fail(Failure::Backend(error.clone()));
        }
    }
}
