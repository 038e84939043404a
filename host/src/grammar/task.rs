//! Tasks of worker threads. A task takes the chosen tokens of one sequence, and finds the tokens that may follow.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    time::{Duration, Instant},
    vec,
};

use llguidance::CancellationHandle;
use prometheus::Histogram;

use super::{GrammarError, Matcher, matcher::Prototype};

/// A result of a task. Results come in this order.
pub enum Found {
    /// The tokens that must follow the chosen ones. Sent at the beginning of the grammar, and whenever tokens were
    /// chosen.
    FastForward(FastForward),
    /// The task itself, when it is done.
    Done(Box<Task>),
}

/// Fast-forward tokens: those that must follow the chosen ones.
#[derive(Default)]
pub struct FastForward {
    /// The tokens that the sequence has not taken. The grammar has taken all of them already.
    pub tokens: vec::IntoIter<u32>,
    /// Whether nothing may follow these tokens.
    pub is_last: bool,
}

/// The work of a thread for one sequence, and afterwards the results. The task goes back and forth between threads, so
/// that its buffers are reused.
pub struct Task {
    /// The beginning of the grammar.
    prototype: Arc<Prototype>,
    /// Measures how long it takes to find masks.
    mask_seconds: Histogram,
    /// None before the first run, and after a panic.
    matcher: Option<Matcher>,
    /// Tokens that were chosen since the last run. The run takes them out.
    pub chosen: Vec<u32>,
    /// Whether the run has to find masks.
    pub wants_masks: bool,
    /// A draft that may follow. The run also finds the masks after its tokens.
    pub drafts: Vec<u32>,
    /// Tells other threads how long the task has been running, and lets them stop it.
    pub handle: Arc<RunHandle>,
    /// How the run ended.
    pub result: Result<(), GrammarError>,
    /// `[rows][mask_words]`. Empty if no masks were wanted, or if nothing may follow.
    pub masks: Vec<u32>,
    /// How long the runs took since the submitter set this to zero.
    pub took: Duration,
}

/// Tells how long a task has been running, and stops it. None while the task does not run.
#[derive(Default)]
pub struct RunHandle(Mutex<Option<(Instant, Option<CancellationHandle>)>>);

impl Task {
    /// A task for a sequence at the beginning of its grammar.
    pub fn new(prototype: Arc<Prototype>, mask_seconds: Histogram) -> Self {
        Self {
            prototype,
            mask_seconds,
            matcher: None,
            chosen: Vec::new(),
            wants_masks: false,
            drafts: Vec::new(),
            handle: Arc::default(),
            result: Ok(()),
            masks: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Takes the chosen tokens, or finds the masks if there are none to take. Returns whether masks are still to be
    /// found.
    pub fn run(&mut self, found: &Sender<Found>) -> bool {
        let started = Instant::now();
        self.handle.began(started, None);
        let takes = self.matcher.is_none() || !self.chosen.is_empty();
        let run = catch_unwind(AssertUnwindSafe(|| match takes {
            true => self.advance(found),
            false => self.find_masks().map(|()| false),
        }));
        self.handle.ended();
        let run = run.unwrap_or_else(|_| {
            self.matcher = None;
            Err(GrammarError::Invalid(
                "matching the grammar panicked".into(),
            ))
        });
        self.took += started.elapsed();
        let lacks_masks = *run.as_ref().unwrap_or(&false);
        self.result = run.map(|_| ());
        lacks_masks
    }

    fn advance(&mut self, found: &Sender<Found>) -> Result<bool, GrammarError> {
        self.masks.clear();
        let matcher = self.matcher.get_or_insert_with(|| self.prototype.matcher());
        self.handle.began(Instant::now(), matcher.cancellation());
        for &token in &self.chosen {
            matcher.consume(token)?;
        }
        self.chosen.clear();
        let fast_forward = FastForward {
            tokens: matcher.fast_forward()?.into_iter(),
            is_last: matcher.is_finished(),
        };
        let lacks_masks = self.wants_masks && !fast_forward.is_last;
        // The receiver may be gone.
        let _ = found.send(Found::FastForward(fast_forward));
        Ok(lacks_masks)
    }

    fn find_masks(&mut self) -> Result<(), GrammarError> {
        self.masks.clear();
        let Some(matcher) = &mut self.matcher else {
            return Ok(());
        };
        self.handle.began(Instant::now(), matcher.cancellation());
        let timer = self.mask_seconds.start_timer();
        matcher.masks(&self.drafts, &mut self.masks)?;
        timer.observe_duration();
        Ok(())
    }
}

impl RunHandle {
    /// How long the task has been running. None if it does not run.
    pub fn running_for(&self) -> Option<Duration> {
        let (since, _) = self.lock().clone()?;
        Some(since.elapsed())
    }

    /// Stops the task. Its matcher cannot be used afterwards.
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
