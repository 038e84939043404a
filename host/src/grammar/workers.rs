//! Threads on which sequences are matched with their grammars, so that a slow grammar holds up nobody else.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use llguidance::CancellationHandle;

use super::{CompiledGrammar, GrammarError, Matcher};

/// Threads that run tasks: some for all sequences, and as many for those that were slow before, so that these delay each
/// other only. They end when it is dropped.
pub struct Workers {
    fast: Lane,
    slow: Lane,
}

/// Some threads, and their end. A channel behind a mutex takes two system calls to wake one, this takes one, and the model
/// thread does it for every token.
struct Lane(Arc<Jobs>);

struct Jobs {
    /// None at the end.
    waiting: Mutex<Option<VecDeque<Job>>>,
    arrival: Condvar,
}

/// A task, and where to send it when it is done; None where it is of no use any more.
type Job = (Box<Task>, Option<Sender<Box<Task>>>);

/// What is to be done for one sequence, and then what came out. It goes back and forth, and its buffers with it.
pub struct Task {
    pub grammar: Arc<CompiledGrammar>,
    /// None before the first run.
    matcher: Option<Matcher>,
    /// Tokens that were chosen since the last run. The run empties it.
    pub chosen: Vec<u32>,
    /// Whether the masks are wanted.
    pub wants_masks: bool,
    /// Tokens that may follow, of which the masks are wanted as well.
    pub drafts: Vec<u32>,
    /// For other threads while it runs.
    pub progress: Arc<Progress>,
    /// How the run ended.
    pub result: Result<(), GrammarError>,
    /// Tokens that must follow those that were chosen last. The grammar has taken them.
    pub forced: Vec<u32>,
    /// Whether nothing may follow.
    pub is_finished: bool,
    /// `[rows][mask_words]`; empty if not wanted.
    pub masks: Vec<u32>,
    /// How long the run took.
    pub took: Duration,
}

/// Since when a task runs, and what stops it. None while it does not run.
#[derive(Default)]
pub struct Progress(Mutex<Option<(Instant, Option<CancellationHandle>)>>);

impl Workers {
    /// Starts `threads` threads of each kind.
    pub fn start(threads: usize) -> io::Result<Self> {
        Ok(Self {
            fast: Lane::start("mask", threads)?,
            slow: Lane::start("slow mask", threads)?,
        })
    }

    /// Has a task run and then sent to `done`.
    pub fn submit(&self, task: Box<Task>, done: Sender<Box<Task>>, is_slow: bool) {
        let lane = if is_slow { &self.slow } else { &self.fast };
        lane.send((task, Some(done)));
    }

    /// Drops a task, which may take a while.
    pub fn retire(&self, task: Box<Task>) {
        self.slow.send((task, None));
    }
}

impl Lane {
    fn start(name: &str, threads: usize) -> io::Result<Self> {
        let lane = Self(Arc::new(Jobs {
            waiting: Mutex::new(Some(VecDeque::new())),
            arrival: Condvar::new(),
        }));
        for _ in 0..threads {
            let jobs = Arc::clone(&lane.0);
            let thread = thread::Builder::new().name(name.into());
            thread.spawn(move || {
                while let Some(job) = jobs.next() {
                    run(job)
                }
            })?;
        }
        Ok(lane)
    }

    fn send(&self, job: Job) {
        if let Some(waiting) = &mut *self.0.lock() {
            waiting.push_back(job);
        }
        // Not before the lock is free, for which who is woken would wait again.
        self.0.arrival.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = self.0.lock().take();
        self.0.arrival.notify_all();
        drop(left);
    }
}

impl Jobs {
    /// Waits for a job. None at the end.
    fn next(&self) -> Option<Job> {
        let is_empty = |waiting: &mut Option<VecDeque<_>>| {
            waiting.as_ref().is_some_and(|waiting| waiting.is_empty())
        };
        let waiting = self.arrival.wait_while(self.lock(), is_empty);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Job>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run((mut task, done): Job) {
    let Some(done) = done else { return };
    let run = catch_unwind(AssertUnwindSafe(|| task.run()));
    task.result = run.unwrap_or_else(|_| {
        task.matcher = None;
        Err(GrammarError::Invalid(
            "matching the grammar panicked".into(),
        ))
    });
    // Who asked may be gone.
    let _ = done.send(task);
}

impl Task {
    /// A sequence at the beginning of its grammar.
    pub fn new(grammar: Arc<CompiledGrammar>) -> Self {
        Self {
            grammar,
            matcher: None,
            chosen: Vec::new(),
            wants_masks: false,
            drafts: Vec::new(),
            progress: Arc::default(),
            result: Ok(()),
            forced: Vec::new(),
            is_finished: false,
            masks: Vec::new(),
            took: Duration::ZERO,
        }
    }

    fn run(&mut self) -> Result<(), GrammarError> {
        let started = Instant::now();
        self.progress.began(started, None);
        let ran = self.advance();
        self.progress.ended();
        self.took = started.elapsed();
        ran
    }

    fn advance(&mut self) -> Result<(), GrammarError> {
        let is_new = self.matcher.is_none();
        let matcher = self.matcher.get_or_insert_with(|| self.grammar.matcher());
        self.progress.began(Instant::now(), matcher.cancellation());
        for &token in &self.chosen {
            matcher.consume(token)?;
        }
        if is_new || !self.chosen.is_empty() {
            self.forced.clear();
            matcher.consume_forced(&mut self.forced)?;
        }
        self.chosen.clear();
        self.masks.clear();
        self.is_finished = matcher.is_finished();
        if self.wants_masks && !self.is_finished {
            let timer = self.grammar.shared.metrics.mask_seconds.start_timer();
            matcher.masks(&self.drafts, &mut self.masks)?;
            timer.observe_duration();
        }
        Ok(())
    }
}

impl Progress {
    /// How long the task has been running.
    pub fn running_for(&self) -> Option<Duration> {
        let (since, _) = self.lock().clone()?;
        Some(since.elapsed())
    }

    /// Stops the task, which is of no use any more.
    pub fn cancel(&self) {
        if let Some((_, Some(cancellation))) = &*self.lock() {
            cancellation.cancel();
        }
    }

    fn began(&self, at: Instant, cancellation: Option<CancellationHandle>) {
        *self.lock() = Some((at, cancellation));
    }

    fn ended(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Option<CancellationHandle>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
