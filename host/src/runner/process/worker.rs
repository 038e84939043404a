//! The worker's part: carries out the server's orders with runners of its own process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use prometheus::Registry;
use tenon_plugin_api::{Code, Error, Result};
use tokio::{
    io::AsyncRead,
    net::UnixStream,
    select, spawn,
    task::{AbortHandle, spawn_blocking},
    time::interval,
};
use tokio_util::sync::CancellationToken;

use super::{
    frames::messages,
    messages::{Answer, Id, News, Order},
    outbox::Outbox,
    window::Window,
};
use crate::{
    engine::{EmbeddingError, Generation, SubmitError},
    grammar::GrammarError,
    metrics::Figures,
    plugin::{ModelFacts, ReportProgress},
    runner::{CompiledForm, Maker, Runner, Steering},
};

/// How often the age of the running forwards is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What a worker has to carry out orders with.
pub struct Worker {
    /// What the server is told first.
    pub news: Vec<News>,
    /// Makes runners, or says why it cannot.
    pub maker: Result<Arc<dyn Maker>>,
    /// The metrics of its runners.
    pub registry: Registry,
    /// How long a forward may take.
    pub stuck_timeout: Duration,
}

/// Why a worker ends.
#[derive(Debug)]
pub enum End {
    /// The server is gone, or needs the worker no longer.
    Dismissed,
    /// A forward takes this long already.
    Stuck(Duration),
}

impl Worker {
    /// Carries out the orders that arrive on the socket, until there is a reason to end.
    pub async fn serve(mut self, socket: UnixStream) -> End {
        let (input, output) = socket.into_split();
        let outbox = Outbox::default();
        self.news.drain(..).for_each(|news| outbox.tell(news));
        let session = Arc::new(Session {
            worker: self,
            numbered: Mutex::default(),
            outbox,
        });
        select! {
            () = session.receive(input) => End::Dismissed,
            _ = session.outbox.clone().deliver(output) => End::Dismissed,
            age = session.stuck() => End::Stuck(age),
        }
    }
}

/// A worker with what the server's numbers stand for.
struct Session {
    worker: Worker,
    numbered: Mutex<Numbered>,
    outbox: Outbox,
}

#[derive(Default)]
struct Numbered {
    runners: HashMap<Id, Arc<dyn Runner>>,
    grammars: HashMap<Id, CompiledForm>,
    sequences: HashMap<Id, (Window, AbortHandle)>,
    /// Calls that can be cancelled.
    calls: HashMap<Id, CancellationToken>,
}

impl Session {
    /// Carries out orders until the server closes the socket.
    async fn receive(self: &Arc<Self>, input: impl AsyncRead + Unpin) {
        let mut orders = messages(input);
        while let Some(Ok(order)) = orders.next().await {
            self.carry_out(order).await;
        }
    }

    /// Waits until a forward has taken too long.
    async fn stuck(&self) -> Duration {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let ages = self
                .numbered()
                .runners
                .values()
                .map(|runner| runner.step_age())
                .max();
            if let Some(age) = ages.filter(|age| *age > self.worker.stuck_timeout) {
                return age;
            }
        }
    }

    async fn carry_out(self: &Arc<Self>, order: Order) {
        match order {
            Order::Load {
                call,
                runner,
                level,
            } => {
                let maker = self.worker.maker.clone();
                self.make(call, runner, move |progress| {
                    maker?.load(level.as_deref(), progress)
                });
            }
            Order::Beside {
                call,
                runner,
                of,
                level,
            } => {
                let of = self.runner(of);
                self.make(call, runner, move |progress| of?.beside(&level, progress));
            }
            Order::Tokenize {
                call,
                runner,
                texts,
            } => {
                let runner = self.runner(runner);
                self.blocking(call, move || runner?.tokenize(texts), Answer::Tokens);
            }
            Order::Estimate {
                call,
                runner,
                level,
            } => {
                let runner = self.runner(runner);
                let estimate = move || runner?.memory_bytes(level.as_deref());
                self.blocking(call, estimate, Answer::Bytes);
            }
            Order::Compile {
                call,
                runner,
                grammar,
                source,
            } => {
                let session = self.clone();
                self.cancellable(call, async move {
                    Answer::Compiled(session.compile(runner, grammar, source).await)
                });
            }
            Order::Embed {
                call,
                runner,
                client,
                texts,
            } => {
                let runner = self.runner(runner);
                self.cancellable(call, async move {
                    Answer::Vectors(match runner {
                        Ok(runner) => runner.embed(client, texts).await,
                        Err(error) => Err(EmbeddingError::Submit(SubmitError::Stopped(error))),
                    })
                });
            }
            Order::Submit {
                call,
                runner,
                first,
                request,
                dry,
                grammar,
                prompts,
                copies,
            } => {
                let grammar = grammar.and_then(|id| self.numbered().grammars.get(&id).cloned());
                let steering = Steering { dry, grammar };
                let submitted = match self.runner(runner) {
                    Ok(runner) => runner.submit(request, steering, prompts, copies).await,
                    Err(error) => Err(SubmitError::Stopped(error)),
                };
                let submitted = submitted.map(|generations| {
                    for (sequence, generation) in (first..).zip(generations) {
                        self.relay(sequence, generation);
                    }
                });
                self.outbox.answer(call, Answer::Submitted(submitted));
            }
            Order::Figures { call } => {
                let figures = Figures::of(&self.worker.registry);
                self.outbox.tell(News::Figures(figures));
                self.outbox.answer(call, Answer::Told);
            }
            Order::Took { sequence, events } => {
                if let Some((window, _)) = self.numbered().sequences.get(&sequence) {
                    window.widen(events);
                }
            }
            Order::Left { sequence } => {
                if let Some((_, task)) = self.numbered().sequences.remove(&sequence) {
                    task.abort();
                }
            }
            Order::Cancel { call } => {
                if let Some(call) = self.numbered().calls.remove(&call) {
                    call.cancel();
                }
            }
            Order::ForgetGrammar { grammar } => {
                self.numbered().grammars.remove(&grammar);
            }
            Order::Release { runner } => {
                let released = self.numbered().runners.remove(&runner);
                drop(released);
            }
        }
    }

    async fn compile(
        &self,
        runner: Id,
        grammar: Id,
        source: crate::grammar::Grammar,
    ) -> std::result::Result<Vec<String>, GrammarError> {
        let runner = self.runner(runner);
        let runner = runner.map_err(|error| GrammarError::Gone(error.message))?;
        let compiled = runner.compile(source).await?;
        let unenforced = compiled.unenforced.to_vec();
        self.numbered().grammars.insert(grammar, compiled);
        Ok(unenforced)
    }

    /// Makes a runner on another thread, and reports how far that is.
    fn make(
        self: &Arc<Self>,
        call: Id,
        id: Id,
        make: impl FnOnce(ReportProgress) -> Result<Arc<dyn Runner>> + Send + 'static,
    ) {
        let (cancelled, session) = (self.begin(call), self.clone());
        let progress: ReportProgress = Box::new(move |fraction, what| {
            let what = what.to_owned();
            session.outbox.tell(News::Progress {
                call,
                fraction,
                what,
            });
            !cancelled.is_cancelled()
        });
        let session = self.clone();
        let make = move || make(progress).map(|made| session.admit(id, made));
        self.blocking(call, make, Answer::Made);
    }

    /// Gives a new runner its number, and reports when it fails or ends.
    fn admit(self: &Arc<Self>, id: Id, runner: Arc<dyn Runner>) -> Arc<ModelFacts> {
        let (facts, failed, end) = (runner.facts(), runner.failed(), runner.end());
        self.numbered().runners.insert(id, runner);
        let outbox = self.outbox.clone();
        spawn(async move {
            select! {
                biased;
                error = failed => outbox.tell(News::Failed { runner: id, error }),
                () = end.clone().wait() => {}
            }
            end.wait().await;
            outbox.tell(News::Ended { runner: id });
        });
        facts
    }

    /// Sends the events of a sequence, as far as the server has room for them.
    fn relay(self: &Arc<Self>, sequence: Id, mut generation: Generation) {
        let (window, session) = (Window::new(), self.clone());
        let room = window.clone();
        let task = spawn(async move {
            room.take_one().await;
            while let Some(event) = generation.next().await {
                session.outbox.event(sequence, event);
                room.take_one().await;
            }
            session.numbered().sequences.remove(&sequence);
        });
        let entry = (window, task.abort_handle());
        self.numbered().sequences.insert(sequence, entry);
    }

    /// Answers a call with what another thread finds.
    fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        call: Id,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        answer: fn(Result<T>) -> Answer,
    ) {
        let session = self.clone();
        spawn(async move {
            let found = spawn_blocking(work).await;
            let found = found.unwrap_or_else(|panic| Err(internal(&panic.to_string())));
            session.finish(call, answer(found));
        });
    }

    /// Answers a call with what a future finds, unless the server cancels the call.
    fn cancellable(
        self: &Arc<Self>,
        call: Id,
        work: impl Future<Output = Answer> + Send + 'static,
    ) {
        let (cancelled, session) = (self.begin(call), self.clone());
        spawn(async move {
            if let Some(answer) = cancelled.run_until_cancelled(work).await {
                session.finish(call, answer);
            }
        });
    }

    fn begin(&self, call: Id) -> CancellationToken {
        self.numbered().calls.entry(call).or_default().clone()
    }

    fn finish(&self, call: Id, answer: Answer) {
        self.numbered().calls.remove(&call);
        self.outbox.answer(call, answer);
    }

    fn runner(&self, id: Id) -> Result<Arc<dyn Runner>> {
        let runner = self.numbered().runners.get(&id).cloned();
        runner.ok_or_else(|| internal("the worker does not have this model"))
    }

    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        self.numbered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn internal(what: &str) -> Error {
    Error::new(Code::INTERNAL, what)
}
