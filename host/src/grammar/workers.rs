//! Threads that match sequences with their grammars, so that a slow grammar delays no other sequence.

use std::{
    collections::VecDeque,
    hint, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    matcher::STACK_BYTES,
    task::{Found, Task},
};

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
    /// Jobs that lack only their masks. They run after all new jobs, because a step begins when all fast-forward
    /// tokens are known.
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

    /// Runs a job. If it lacks masks after that, queues it behind the jobs whose fast-forward tokens are not known yet.
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::grammar::{Grammar, tests::compiled};

    fn task() -> Box<Task> {
        let mut task = Box::new(compiled(&Grammar::Regex("a[bc]".into())).task());
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
            Found::FastForward(fast_forward),
            Found::FastForward(_),
            Found::Done(first),
            Found::Done(second),
        ] = results.as_slice()
        else {
            panic!("{} results in another order", results.len());
        };
        assert_eq!(fast_forward.tokens.as_slice(), [u32::from(b'a')]);
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
                    Ok(Found::FastForward(_)) => {}
                    Ok(Found::Done(task)) => break task,
                    Err(error) => panic!("round {round}: {error}"),
                }
            };
            assert_eq!(done.result, Ok(()));
            task = done;
        }
    }
}
