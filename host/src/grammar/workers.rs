//! Threads that match sequences with their grammars, so that a slow grammar delays no other sequence.

use std::{
    collections::VecDeque,
    hint, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

use llguidance::CancellationHandle;

use super::{CompiledGrammar, GrammarError, Matcher, compile::STACK_BYTES};

/// Threads that run tasks. Half of them are for sequences that were slow before, so that these delay only each other.
/// The threads end when this is dropped.
pub struct Workers {
    fast: Lane,
    slow: Lane,
    /// Whether threads may spin while they wait. That needs a second core for the thread that submits the task.
    can_watch: bool,
}

/// A queue of jobs, and its threads, which end when this is dropped. Waking a thread takes one system call. A channel
/// behind a mutex would take two, and the model thread wakes one for every step.
struct Lane(Arc<Jobs>);

struct Jobs {
    /// The jobs that wait. None after the lane was dropped.
    waiting: Mutex<Option<Waiting>>,
    arrival: Condvar,
    /// Number of jobs that arrived. Spinning threads watch it.
    arrivals: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    new: VecDeque<Job>,
    /// Jobs that lack only their masks. They run after all new jobs, because a step begins when all forced tokens are
    /// known.
    begun: VecDeque<Job>,
    /// Number of threads that sleep and were not woken.
    sleepers: usize,
    /// Number of threads that spin.
    watchers: usize,
}

/// How long a roused thread spins for its task before it sleeps again: longer than sampling takes in a step.
const AWAKE: Duration = Duration::from_millis(1);

/// A task, and where its results go. None: the task is only to be dropped.
type Job = (Box<Task>, Option<Sender<Found>>);

/// A result of a task. They come in this order.
pub enum Found {
    /// The tokens that must follow the chosen ones. Sent at the beginning of the grammar, and whenever tokens were
    /// chosen.
    Forced(Forced),
    /// The task itself, when it is done.
    Done(Box<Task>),
}

/// Tokens that must follow.
#[derive(Default)]
pub struct Forced {
    /// The tokens. The grammar has taken them already.
    pub tokens: Vec<u32>,
    /// Whether nothing may follow these tokens.
    pub is_last: bool,
}

/// What a thread has to do for one sequence, and afterwards the results. The task goes back and forth between threads,
/// so that its buffers are used again.
pub struct Task {
    pub grammar: Arc<CompiledGrammar>,
    /// None before the first run, and after a panic.
    matcher: Option<Matcher>,
    /// Tokens that were chosen since the last run. The run takes them out.
    pub chosen: Vec<u32>,
    /// Whether the run has to find masks.
    pub wants_masks: bool,
    /// A draft that may follow. The run also finds the masks after its tokens.
    pub drafts: Vec<u32>,
    /// Tells other threads how long the task has been running, and lets them stop it.
    pub progress: Arc<Progress>,
    /// How the run ended.
    pub result: Result<(), GrammarError>,
    /// `[rows][mask_words]`. Empty if no masks were wanted, or if nothing may follow.
    pub masks: Vec<u32>,
    /// How long the runs took since the submitter set this to zero.
    pub took: Duration,
}

/// When a task began to run, and a handle that stops it. None while the task does not run.
#[derive(Default)]
pub struct Progress(Mutex<Option<(Instant, Option<CancellationHandle>)>>);

impl Workers {
    /// Starts `threads` threads for all sequences, and as many for slow ones.
    pub fn start(threads: usize) -> io::Result<Self> {
        Ok(Self {
            fast: Lane::start("mask", threads)?,
            slow: Lane::start("slow mask", threads)?,
            can_watch: thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        })
    }

    /// Wakes a thread for a task that will be submitted soon, because waking takes longer than most tasks do.
    pub fn rouse(&self) {
        if self.can_watch {
            self.fast.rouse();
        }
    }

    /// Runs a task on another thread, which sends the results to `found`.
    pub fn submit(&self, task: Box<Task>, found: Sender<Found>, is_slow: bool) {
        let lane = if is_slow { &self.slow } else { &self.fast };
        lane.send((task, Some(found)));
    }

    /// Drops a task on another thread, because dropping it may take a while.
    pub fn retire(&self, task: Box<Task>) {
        self.slow.send((task, None));
    }
}

impl Lane {
    fn start(name: &str, threads: usize) -> io::Result<Self> {
        let lane = Self(Arc::new(Jobs {
            waiting: Mutex::new(Some(Waiting::default())),
            arrival: Condvar::new(),
            arrivals: AtomicUsize::new(0),
        }));
        for _ in 0..threads {
            let jobs = Arc::clone(&lane.0);
            let thread = thread::Builder::new().name(name.into());
            thread.stack_size(STACK_BYTES).spawn(move || {
                while let Some(job) = jobs.next() {
                    jobs.run(job);
                }
            })?;
        }
        Ok(lane)
    }

    fn send(&self, job: Job) {
        self.wake(|waiting| {
            waiting.new.push_back(job);
            waiting.new.len() > waiting.watchers
        });
        self.0.arrivals.fetch_add(1, Ordering::Release);
    }

    fn rouse(&self) {
        self.wake(|waiting| waiting.watchers == 0);
    }

    /// Wakes a thread if `change` returns true and a thread sleeps.
    fn wake(&self, change: impl FnOnce(&mut Waiting) -> bool) {
        let mut waiting = self.0.lock();
        let Some(jobs) = &mut *waiting else { return };
        let wakes = change(jobs) && jobs.sleepers > 0;
        jobs.sleepers -= usize::from(wakes);
        // Otherwise the woken thread would wait for the lock.
        drop(waiting);
        if wakes {
            self.0.arrival.notify_one();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = self.0.lock().take();
        self.0.arrival.notify_all();
        drop(left);
    }
}

impl Waiting {
    fn next(&mut self) -> Option<Job> {
        let new = self.new.pop_front();
        new.or_else(|| self.begun.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.begun.is_empty()
    }
}

impl Jobs {
    /// Waits for a job. None after the lane was dropped.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.as_mut()?.next() {
                return Some(job);
            }
            waiting.as_mut()?.sleepers += 1;
            let woken = self.arrival.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
            if waiting.as_ref()?.is_empty() {
                waiting = self.watch(waiting);
            }
        }
    }

    /// Spins for up to [`AWAKE`], until a job arrives.
    fn watch<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Option<Waiting>>,
    ) -> MutexGuard<'a, Option<Waiting>> {
        if let Some(waiting) = &mut *waiting {
            waiting.watchers += 1;
        }
        let (begun, before) = (Instant::now(), self.arrivals.load(Ordering::Acquire));
        drop(waiting);
        while self.arrivals.load(Ordering::Acquire) == before && begun.elapsed() < AWAKE {
            hint::spin_loop();
        }
        let mut waiting = self.lock();
        if let Some(waiting) = &mut *waiting {
            waiting.watchers -= 1;
        }
        waiting
    }

    /// Runs a job. If it lacks masks after that, queues it behind the jobs whose forced tokens are not known yet.
    fn run(&self, (mut task, found): Job) {
        let Some(found) = found else { return };
        let lacks_masks = task.run(&found);
        if lacks_masks {
            if let Some(jobs) = &mut *self.lock() {
                jobs.begun.push_back((task, Some(found)));
            }
            return;
        }
        // The receiver may be gone.
        let _ = found.send(Found::Done(task));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    /// A task for a sequence at the beginning of its grammar.
    pub fn new(grammar: Arc<CompiledGrammar>) -> Self {
        Self {
            grammar,
            matcher: None,
            chosen: Vec::new(),
            wants_masks: false,
            drafts: Vec::new(),
            progress: Arc::default(),
            result: Ok(()),
            masks: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Takes the chosen tokens, or finds the masks if there are none to take. Returns whether masks are still to be
    /// found.
    fn run(&mut self, found: &Sender<Found>) -> bool {
        let started = Instant::now();
        self.progress.began(started, None);
        let takes = self.matcher.is_none() || !self.chosen.is_empty();
        let run = catch_unwind(AssertUnwindSafe(|| match takes {
            true => self.advance(found),
            false => self.find_masks().map(|()| false),
        }));
        self.progress.ended();
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
        let matcher = self.matcher.get_or_insert_with(|| self.grammar.matcher());
        self.progress.began(Instant::now(), matcher.cancellation());
        for &token in &self.chosen {
            matcher.consume(token)?;
        }
        self.chosen.clear();
        let mut forced = Forced::default();
        matcher.consume_forced(&mut forced.tokens)?;
        forced.is_last = matcher.is_finished();
        let lacks_masks = self.wants_masks && !forced.is_last;
        // The receiver may be gone.
        let _ = found.send(Found::Forced(forced));
        Ok(lacks_masks)
    }

    fn find_masks(&mut self) -> Result<(), GrammarError> {
        self.masks.clear();
        let Some(matcher) = &mut self.matcher else {
            return Ok(());
        };
        self.progress.began(Instant::now(), matcher.cancellation());
        let timer = self.grammar.shared.metrics.mask_seconds.start_timer();
        matcher.masks(&self.drafts, &mut self.masks)?;
        timer.observe_duration();
        Ok(())
    }
}

impl Progress {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::grammar::{Grammar, tests::compiled};

    fn task() -> Box<Task> {
        let grammar = compiled(&Grammar::Regex("a[bc]".into()));
        let mut task = Box::new(Task::new(Arc::new(grammar)));
        task.wants_masks = true;
        task
    }

    #[test]
    fn what_must_follow_is_known_of_all_before_any_mask() {
        // The lane has no threads: this test runs the jobs.
        let lane = Lane::start("test", 0).unwrap();
        let (found, results) = channel();
        lane.send((task(), Some(found.clone())));
        lane.send((task(), Some(found)));
        for _ in 0..4 {
            let job = lane.0.next().unwrap();
            lane.0.run(job);
        }
        let results: Vec<_> = results.try_iter().collect();
        let [
            Found::Forced(forced),
            Found::Forced(_),
            Found::Done(first),
            Found::Done(second),
        ] = results.as_slice()
        else {
            panic!("{} results in another order", results.len());
        };
        assert_eq!(forced.tokens, [u32::from(b'a')]);
        let allowed = 1 << (b'b' % 32) | 1 << (b'c' % 32);
        assert_eq!(first.masks[usize::from(b'b') / 32], allowed);
        assert_eq!(first.masks, second.masks);
    }

    #[test]
    fn no_job_is_missed_whatever_its_thread_waits_like() {
        let workers = Workers::start(2).unwrap();
        let (found, results) = channel();
        let mut task = task();
        for round in 0..300 {
            if round % 3 > 0 {
                workers.rouse();
            }
            // The delays range from none to so long that a roused thread sleeps again.
            let begun = Instant::now();
            while begun.elapsed() < AWAKE * (round % 11) / 8 {
                hint::spin_loop();
            }
            workers.submit(task, found.clone(), false);
            let done = loop {
                match results.recv_timeout(Duration::from_secs(60)) {
                    Ok(Found::Forced(_)) => {}
                    Ok(Found::Done(task)) => break task,
                    Err(error) => panic!("round {round}: {error}"),
                }
            };
            assert_eq!(done.result, Ok(()));
            task = done;
        }
    }
}
