//! The server's side of the socket to a worker: calls and their answers, sequences and their events.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{Stream, StreamExt};
use tenon_plugin_api::{Code, Error, Result};
use tokio::sync::{oneshot, watch};

use super::{
    frames,
    line::Line,
    messages::{Answer, Id, News, Order, Question},
    window,
};
use crate::{
    engine::{Event, Failure, Generation, ReaderPlace, Sender, channel},
    metrics::ModelPart,
    plugin::{Current, ReportProgress},
    system::memory,
};

/// Length of an order in bytes from which on the memory that it freed is given back to the operating system.
const LONG_ORDER: usize = 64 << 10;

/// A connection to a worker. Its end is the end of the worker.
pub struct Connection {
    /// The id of the worker's process. None if it has ended already.
    pub process_id: Option<u32>,
    orders: Arc<Line>,
    last_id: AtomicU64,
    open: Arc<OpenWork>,
}

/// The calls, sequences and runners that wait for news of the worker.
pub struct OpenWork {
    state: Mutex<OpenState>,
    orders: Weak<Line>,
}

#[derive(Default)]
struct OpenState {
    calls: HashMap<Id, OpenCall>,
    sequences: HashMap<Id, Sender<Event>>,
    runners: HashMap<Id, OpenRunner>,
    /// The worker's metrics. None once it has ended.
    metrics: Option<ModelPart>,
    /// Why the worker ended.
    ended: Option<Error>,
}

struct OpenCall {
    answer: oneshot::Sender<Answer>,
    progress: Option<ReportProgress>,
}

/// A runner that has not ended.
struct OpenRunner {
    failure: Current<Option<Error>>,
    /// Dropped when it has ended.
    _alive: watch::Sender<()>,
}

impl Connection {
    /// A connection that sends its orders over a line, and the part of it that takes the worker's news. `metrics` are the
    /// worker's.
    pub fn new(
        process_id: Option<u32>,
        orders: Line,
        metrics: ModelPart,
    ) -> (Arc<Self>, Arc<OpenWork>) {
        let orders = Arc::new(orders);
        let open = Arc::new(OpenWork {
            state: Mutex::new(OpenState {
                metrics: Some(metrics),
                ..OpenState::default()
            }),
            orders: Arc::downgrade(&orders),
        });
        let connection = Self {
            process_id,
            orders,
            last_id: AtomicU64::new(0),
            open: open.clone(),
        };
        (Arc::new(connection), open)
    }

    /// Takes `count` numbers that were not used before. Returns the first one.
    pub fn ids(&self, count: u64) -> Id {
        self.last_id.fetch_add(count, Ordering::Relaxed) + 1
    }

    /// Number of sequences that have not ended.
    pub fn sequences(&self) -> usize {
        self.open.state().sequences.len()
    }

    /// Sends an order that has no answer.
    pub fn send(&self, order: Order) {
        // Such an order is a few numbers, which can be written.
        if let Ok(frame) = frames::frame(&order) {
            self.orders.send(&frame);
        }
    }

    /// Asks a question about a runner. The call is cancelled if what is returned is dropped before it is answered.
    ///
    /// # Errors
    /// The worker has ended, or the question cannot be sent: its JSON is nested too deeply.
    pub fn ask(
        self: &Arc<Self>,
        runner: Id,
        question: Question,
        progress: Option<ReportProgress>,
    ) -> Result<PendingAnswer> {
        let (sender, answer) = oneshot::channel();
        let call = self.ids(1);
        let frame = frames::frame(&Order::Ask {
            call,
            runner,
            question,
        })
        .map_err(|error| Error::invalid(error.to_string()))?;
        if frame.len() > LONG_ORDER {
            memory::give_back_soon();
        }
        let mut state = self.open.running()?;
        state.calls.insert(
            call,
            OpenCall {
                answer: sender,
                progress,
            },
        );
        drop(state);
        self.orders.send(&frame);
        Ok(PendingAnswer {
            connection: self.clone(),
            call,
            answer: Some(answer),
        })
    }

    /// The readers of sequences with these numbers.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn readers(self: &Arc<Self>, first: Id, count: u64) -> Result<Vec<Generation>> {
        let mut state = self.open.running()?;
        let reader = |sequence| {
            // One place is left for the failure if the worker ends.
            let (sender, events) = channel(window::EVENTS + 1);
            state.sequences.insert(sequence, sender);
            let place = RemotePlace {
                connection: self.clone(),
                sequence,
                taken: 0,
            };
            Generation::new(events, place)
        };
        Ok((first..first + count).map(reader).collect())
    }

    /// Watches a runner that is about to be made. Returns the cell that gets its failure, and a receiver whose sender is dropped
    /// when the runner has ended.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn watch(&self, runner: Id) -> Result<(Current<Option<Error>>, watch::Receiver<()>)> {
        let failure = Current::default();
        let (alive, end) = watch::channel(());
        let watched = OpenRunner {
            failure: failure.clone(),
            _alive: alive,
        };
        self.open.running()?.runners.insert(runner, watched);
        Ok((failure, end))
    }
}

/// A pending answer. Dropping it cancels the call.
pub struct PendingAnswer {
    connection: Arc<Connection>,
    call: Id,
    /// None once the answer was taken.
    answer: Option<oneshot::Receiver<Answer>>,
}

impl PendingAnswer {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The worker ended.
    pub async fn get(mut self) -> Result<Answer> {
        let answer = match &mut self.answer {
            Some(answer) => answer.await.ok(),
            None => None,
        };
        self.answer = None;
        answer.ok_or_else(|| self.connection.open.why_ended())
    }

    /// Waits for the answer on a thread that may block.
    ///
    /// # Errors
    /// The worker ended.
    pub fn wait(mut self) -> Result<Answer> {
        let answer = self.answer.take();
        let answer = answer.and_then(|answer| answer.blocking_recv().ok());
        answer.ok_or_else(|| self.connection.open.why_ended())
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        if self.answer.take().is_some() {
            self.connection.open.state().calls.remove(&self.call);
            self.connection.send(Order::Cancel { call: self.call });
        }
    }
}

/// The place of the reader of a sequence.
struct RemotePlace {
    connection: Arc<Connection>,
    sequence: Id,
    /// Events that were taken and not reported.
    taken: u32,
}

impl ReaderPlace for RemotePlace {
    fn took(&mut self) {
        self.taken += 1;
        if self.taken == window::REPORTED {
            let (sequence, events) = (self.sequence, self.taken);
            self.connection.send(Order::Took { sequence, events });
            self.taken = 0;
        }
    }

    fn left(&mut self) {
        let sequence = self.sequence;
        let is_unfinished = self
            .connection
            .open
            .state()
            .sequences
            .remove(&sequence)
            .is_some();
        if is_unfinished {
            self.connection.send(Order::Left { sequence });
        }
    }
}

impl OpenWork {
    /// Passes news on until they end.
    pub async fn listen(&self, mut news: impl Stream<Item = io::Result<News>> + Unpin) {
        while let Some(Ok(news)) = news.next().await {
            self.take(news);
        }
    }

    fn take(&self, news: News) {
        match news {
            News::Answer { call, answer } => {
                if let Some(call) = self.state().calls.remove(&call) {
                    // The caller may be gone.
                    let _ = call.answer.send(answer);
                }
            }
            News::Progress {
                call,
                fraction,
                what,
            } => self.report(call, fraction, &what),
            News::Events(events) => self.pass_on(events),
            News::Figures(figures) => {
                if let Some(metrics) = &self.state().metrics {
                    metrics.update(figures);
                }
            }
            News::Unrestricted(what) => warn_once(what),
            News::Failed { runner, error } => {
                if let Some(runner) = self.state().runners.get(&runner) {
                    runner.failure.set(Some(error));
                }
            }
            News::Ended { runner } => {
                self.state().runners.remove(&runner);
            }
        }
    }

    /// Reports the progress of a call, and cancels the call if its caller wants that.
    fn report(&self, call: Id, fraction: Option<f32>, what: &str) {
        let state = self.state();
        let progress = state
            .calls
            .get(&call)
            .and_then(|call| call.progress.as_ref());
        let goes_on = progress.is_none_or(|progress| progress(fraction, what));
        if let Some(orders) = self.orders.upgrade().filter(|_| !goes_on) {
            let _ = frames::frame(&Order::Cancel { call }).map(|frame| orders.send(&frame));
        }
    }

    /// Gives events to their readers, and wakes each reader once.
    fn pass_on(&self, events: Vec<(Id, Event)>) {
        let mut state = self.state();
        let mut ids: Vec<_> = events.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        for (id, event) in events {
            let is_last = matches!(event, Event::Finished { .. } | Event::Failed(_));
            if let Some(reader) = state.sequences.get(&id) {
                reader.send(event);
            }
            if is_last {
                // Dropping the sender wakes the reader.
                state.sequences.remove(&id);
            }
        }
        for reader in ids.iter().filter_map(|id| state.sequences.get(id)) {
            reader.wake();
        }
    }

    /// Fails everything that waits, because the worker has ended.
    pub fn end(&self, why: &Error) {
        let mut state = self.state();
        state.ended = Some(why.clone());
        state.metrics = None;
        state.calls.clear();
        for (_, reader) in state.sequences.drain() {
            reader.send(Event::Failed(Failure::Backend(why.clone())));
        }
        for (_, runner) in state.runners.drain() {
            runner.failure.set(Some(why.clone()));
        }
    }

    fn why_ended(&self) -> Error {
        let why = self.state().ended.clone();
        why.unwrap_or_else(|| Error::new(Code::DEVICE_LOST, "the model's worker gave no answer"))
    }

    /// The state, unless the worker has ended.
    fn running(&self) -> Result<MutexGuard<'_, OpenState>> {
        let state = self.state();
        match &state.ended {
            Some(why) => Err(why.clone()),
            None => Ok(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, OpenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what the kernel cannot restrict, each sentence once.
fn warn_once(what: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(what.clone()) {
        tracing::warn!("{what}");
    }
}
