//! The worker's side: carries out the server's orders with runners of its own process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use prometheus::Registry;
use tenon_plugin_api::{Code, Error, Result};
use tokio::{select, spawn, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    frames::messages,
    messages::{Answer, Id, News, Order, Question, Submission},
    outbox::Outbox,
    relays::Relays,
    socket::Receiving,
    watchdog::{CallKind, CallLimits, Stuck, Watchdog},
};
use crate::{
    engine::{ClientId, EmbeddingError, SubmitError},
    grammar::{Grammar, GrammarError},
    metrics::Figures,
    plugin::{ModelFacts, ReportProgress},
    runner::{CompiledForm, Maker, Runner, Steering},
};

/// The parts of a worker with which it carries out orders.
pub struct Worker {
    /// Sends news to the server.
    pub outbox: Outbox,
    /// Send the events of sequences to the server.
    pub relays: Relays,
    /// Makes runners.
    pub maker: Arc<dyn Maker>,
    /// The metrics of its runners.
    pub registry: Registry,
    /// Limits of the duration of the plugin's calls.
    pub limits: CallLimits,
}

/// Why a worker ends.
#[derive(Debug)]
pub enum WorkerEnd {
    /// The server is gone, or needs the worker no longer.
    Dismissed,
    /// A call of the plugin takes too long. If it is a load, the server was told.
    Stuck(Stuck),
}

impl Worker {
    /// Carries out the orders that arrive until there is a reason to end.
    pub async fn serve(self, input: Receiving) -> WorkerEnd {
        let state = Arc::new(WorkerState {
            watchdog: Watchdog::new(self.limits),
            worker: self,
            numbered: Mutex::default(),
        });
        select! {
            () = state.receive(input) => WorkerEnd::Dismissed,
            stuck = state.watchdog.stuck() => {
                state.give_up(stuck);
                WorkerEnd::Stuck(stuck)
            }
        }
    }
}

/// A worker, and the objects that the server's numbers stand for.
struct WorkerState {
    worker: Worker,
    watchdog: Watchdog,
    numbered: Mutex<Numbered>,
}

#[derive(Default)]
struct Numbered {
    runners: HashMap<Id, Arc<dyn Runner>>,
    grammars: HashMap<Id, CompiledForm>,
    /// Calls that can be cancelled.
    calls: HashMap<Id, CancellationToken>,
}

impl WorkerState {
    /// Carries out orders until the server closes the socket.
    async fn receive(self: &Arc<Self>, input: Receiving) {
        let mut orders = messages(input);
        while let Some(Ok(order)) = orders.next().await {
            self.carry_out(order).await;
        }
    }

    /// Answers a load that is stuck: another worker would not load the model either.
    fn give_up(&self, stuck: Stuck) {
        if let Stuck::Load { call, .. } = stuck {
            let failed = Answer::Made(Err(internal(&stuck.to_string())));
            self.worker.outbox.answer(call, failed);
        }
    }

    async fn carry_out(self: &Arc<Self>, order: Order) {
        match order {
            Order::Ask {
                call,
                runner,
                question,
            } => self.answer(call, runner, question).await,
            Order::Cancel { call } => {
                if let Some(call) = self.numbered().calls.remove(&call) {
                    call.cancel();
                }
            }
            Order::Took { sequence, events } => {
                self.worker.relays.widen(sequence, events);
            }
            Order::Left { sequence } => {
                self.worker.relays.leave(sequence);
            }
            Order::ForgetGrammar { grammar } => drop(self.numbered().grammars.remove(&grammar)),
            Order::Release { runner } => {
                let released = self.numbered().runners.remove(&runner);
                drop(released);
            }
        }
    }

    /// Answers a question, at once or later.
    async fn answer(self: &Arc<Self>, call: Id, runner: Id, question: Question) {
        let named = self.runner(runner);
        match question {
            Question::Load { level } => {
                let maker = self.worker.maker.clone();
                self.make(call, runner, move |progress| {
                    maker.load(level.as_deref(), progress)
                });
            }
            Question::Beside { of, level } => {
                let of = self.runner(of);
                self.make(call, runner, move |progress| of?.beside(&level, progress));
            }
            Question::Tokenize(texts) => {
                let tokenize = move || named?.tokenize(texts);
                self.blocking(call, CallKind::Other, tokenize, Answer::Tokens);
            }
            Question::Estimate { level } => {
                let estimate = move || named?.memory_bytes(level.as_deref());
                self.blocking(call, CallKind::Other, estimate, Answer::Bytes);
            }
            Question::Compile { grammar, source } => {
                let compiled = self.clone().compile(named, grammar, source);
                self.cancellable(call, async { Answer::Compiled(compiled.await) });
            }
            Question::Embed { client, texts } => {
                self.cancellable(call, async move {
                    Answer::Vectors(embed(named, client, texts).await)
                });
            }
            Question::Submit(submission) => {
                let submitted = self.submit(named, *submission).await;
                self.worker
                    .outbox
                    .answer(call, Answer::Submitted(submitted));
            }
            Question::Figures => {
                self.worker
                    .outbox
                    .tell(&News::Figures(Figures::of(&self.worker.registry)));
                self.worker.outbox.answer(call, Answer::Told);
            }
        }
    }

    /// Queues sequences, and begins to send their events.
    async fn submit(
        self: &Arc<Self>,
        runner: Result<Arc<dyn Runner>>,
        submission: Submission,
    ) -> std::result::Result<(), SubmitError> {
        let Submission {
            first,
            request,
            dry,
            grammar,
            reasoning,
            prompts,
            copies,
        } = submission;
        let runner = runner.map_err(SubmitError::Stopped)?;
        let grammar = grammar.and_then(|id| self.numbered().grammars.get(&id).cloned());
        let steering = Steering {
            dry,
            grammar,
            reasoning,
        };
        let generations = runner.submit(request, steering, prompts, copies).await?;
        for (sequence, generation) in (first..).zip(generations) {
            self.worker.relays.admit(sequence, generation);
        }
        Ok(())
    }

    async fn compile(
        self: Arc<Self>,
        runner: Result<Arc<dyn Runner>>,
        grammar: Id,
        source: Grammar,
    ) -> std::result::Result<Vec<String>, GrammarError> {
        let runner = runner.map_err(|error| GrammarError::Gone(error.message))?;
        let compiled = runner.compile(source).await?;
        let unenforced = compiled.unenforced.to_vec();
        self.numbered().grammars.insert(grammar, compiled);
        Ok(unenforced)
    }

    /// Makes a runner on another thread, and reports the progress.
    fn make(
        self: &Arc<Self>,
        call: Id,
        id: Id,
        make: impl FnOnce(ReportProgress) -> Result<Arc<dyn Runner>> + Send + 'static,
    ) {
        let (cancelled, state) = (self.begin(call), self.clone());
        let progress: ReportProgress = Box::new(move |fraction, what| {
            state.watchdog.renew(call);
            let what = what.to_owned();
            state.worker.outbox.tell(&News::Progress {
                call,
                fraction,
                what,
            });
            !cancelled.is_cancelled()
        });
        let state = self.clone();
        let make = move || make(progress).map(|made| state.admit(id, made));
        self.blocking(call, CallKind::Load, make, Answer::Made);
    }

    /// Gives a new runner its number, and reports when it fails or ends.
    fn admit(self: &Arc<Self>, id: Id, runner: Arc<dyn Runner>) -> Arc<ModelFacts> {
        let (facts, failed, end) = (runner.facts(), runner.failed(), runner.end());
        self.watchdog.add(id, runner.plugin_calls());
        self.numbered().runners.insert(id, runner);
        let (state, outbox) = (self.clone(), self.worker.outbox.clone());
        spawn(async move {
            select! {
                biased;
                error = failed => outbox.tell(&News::Failed { runner: id, error }),
                () = end.clone().wait() => {}
            }
            end.wait().await;
            state.watchdog.remove(id);
            state.worker.relays.deliver();
            outbox.tell(&News::Ended { runner: id });
        });
        facts
    }

    /// Answers a call with what another thread finds, unless the plugin takes too long.
    fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        call: Id,
        kind: CallKind,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        answer: fn(Result<T>) -> Answer,
    ) {
        let (state, watching) = (self.clone(), self.clone());
        spawn(async move {
            let watched = move || {
                watching.watchdog.begin(call, kind);
                work()
            };
            let found = spawn_blocking(watched).await;
            let found = found.unwrap_or_else(|panic| Err(internal(&panic.to_string())));
            state.finish(call, answer(found));
        });
    }

    /// Answers a call with the result of `work`, unless the server cancels the call.
    fn cancellable(
        self: &Arc<Self>,
        call: Id,
        work: impl Future<Output = Answer> + Send + 'static,
    ) {
        let (cancelled, state) = (self.begin(call), self.clone());
        spawn(async move {
            if let Some(answer) = cancelled.run_until_cancelled(work).await {
                state.finish(call, answer);
            }
        });
    }

    fn begin(&self, call: Id) -> CancellationToken {
        self.numbered().calls.entry(call).or_default().clone()
    }

    fn finish(&self, call: Id, answer: Answer) {
        self.numbered().calls.remove(&call);
        self.watchdog.end(call);
        self.worker.outbox.answer(call, answer);
    }

    fn runner(&self, id: Id) -> Result<Arc<dyn Runner>> {
        let runner = self.numbered().runners.get(&id).cloned();
        runner.ok_or_else(|| internal("the worker does not have this model"))
    }

    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        self.numbered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn embed(
    runner: Result<Arc<dyn Runner>>,
    client: ClientId,
    texts: Vec<Vec<u32>>,
) -> std::result::Result<Vec<f32>, EmbeddingError> {
    let stopped = |error| EmbeddingError::Submit(SubmitError::Stopped(error));
    runner.map_err(stopped)?.embed(client, texts).await
}

fn internal(what: &str) -> Error {
    Error::new(Code::INTERNAL, what)
}
