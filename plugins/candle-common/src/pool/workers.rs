//! Threads that help one thread with its jobs.
//!
//! A job is a number of items. Every thread that has time takes items from a common counter. The caller never waits for a
//! worker that has not begun: on a machine with other work a worker may get its core too late, and by then the caller has
//! done the work alone. candle's own pool waits for each of its threads after every job, and its number of threads never
//! changes.

use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

/// Worker threads, and how many of them take part.
pub struct Workers {
    shared: Arc<PoolState>,
    handles: Vec<JoinHandle<()>>,
    /// Held while a job runs, so that there is one job at a time.
    caller: Mutex<()>,
}

/// A value on a cache line of its own, because the threads write it all the time.
#[repr(align(64))]
struct CacheLine<T>(T);

struct PoolState {
    /// Number of rounds, counted twice: it becomes odd when a job begins, and even when the job ends.
    round: CacheLine<AtomicU64>,
    /// The first item that nobody has taken.
    next: CacheLine<AtomicUsize>,
    /// Workers that work on the job, or check whether there still is one.
    inside: CacheLine<AtomicUsize>,
    job: UnsafeCell<Job>,
    /// Number of workers that take part; the others sleep.
    used: AtomicUsize,
    /// How often a worker looks for the next job before it falls asleep.
    spins: AtomicU32,
    /// For each worker, whether it sleeps.
    asleep: Vec<AtomicBool>,
    /// Payload of the first worker that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
}

// SAFETY: `job` is written only while no round is on and no worker is inside, and read only by workers that are inside
// during a round.
unsafe impl Sync for PoolState {}

#[derive(Clone, Copy)]
struct Job {
    /// Calls the function behind `work` with some items.
    call: unsafe fn(*const (), Range<usize>),
    work: *const (),
    count: usize,
    /// Items that a thread takes at once.
    chunk: usize,
}

// SAFETY: the maker of a job promises that its function may be called by several threads for as long as the round is on.
unsafe impl Send for Job {}

/// Chunks for each thread: few enough that threads seldom meet at the counter, and enough that nobody waits long for the
/// last one.
const CHUNKS: usize = 8;
/// Least number of looks before a worker sleeps: the pauses between the jobs of one batch are short.
const LEAST_SPINS: u32 = 2_000;
/// Additional looks for each hundredth of busy waiting. 50 hundredths take about as long as the host needs between two
/// batches.
const SPINS_PER_POLL: u32 = 500;

impl Workers {
    /// A pool of `count` threads. Each job uses as many of them as [`set`](Self::set) said last.
    pub fn new(count: usize) -> Self {
        let shared = Arc::new(PoolState::new(count));
        let start = |number| {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("candle-{number}"));
            thread.spawn(move || shared.serve(number))
        };
        // If the machine cannot start more threads, those that started do the work.
        let handles = (0..count).map_while(|number| start(number).ok()).collect();
        Self {
            shared,
            handles,
            caller: Mutex::new(()),
        }
    }

    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Lets `count` workers take part from the next job on. They wait busily by `poll` hundredths.
    pub fn set(&self, count: usize, poll: u32) {
        self.shared.used.store(count.min(self.count()), SeqCst);
        let spins = LEAST_SPINS + poll.min(100) * SPINS_PER_POLL;
        self.shared.spins.store(spins, SeqCst);
    }

    /// Runs `work` on ranges that together cover `0..count`, in no order, and returns when all are done. A job within a job
    /// gets no help.
    pub fn run<F: Fn(Range<usize>) + Sync>(&self, count: usize, work: &F) {
        let shared = &*self.shared;
        let used = shared.used.load(SeqCst);
        let caller = match self.caller.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(caller)) => Some(caller.into_inner()),
            Ok(caller) => Some(caller),
        };
        let Some(_caller) = caller.filter(|_| used > 0 && count > 1) else {
            return work(0..count);
        };
        let job = Job {
            call: call::<F>,
            work: std::ptr::from_ref(work).cast(),
            count,
            chunk: count.div_ceil((used + 1) * CHUNKS),
        };
        // SAFETY: this is the only job, and `round` ends the job before `work` is dropped, also in a panic.
        let round = unsafe { Round::begin(shared, job) };
        self.wake(used);
        // SAFETY: the job is on.
        unsafe { shared.work(job) };
        drop(round);
        let panic = shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn wake(&self, used: usize) {
        for (asleep, handle) in self.shared.asleep.iter().zip(&self.handles).take(used) {
            if asleep.load(SeqCst) {
                handle.thread().unpark();
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A panic of a worker's job was caught before.
            let _ = handle.join();
        }
    }
}

/// A job in progress. Dropping it ends the job.
struct Round<'a>(&'a PoolState);

impl<'a> Round<'a> {
    /// # Safety
    /// No other thread begins a round, and what the job refers to lives longer than the round.
    unsafe fn begin(shared: &'a PoolState, job: Job) -> Self {
        // SAFETY: no round is on, and all workers of the last one have left.
        unsafe { *shared.job.get() = job };
        shared.next.0.store(0, SeqCst);
        shared.round.0.fetch_add(1, SeqCst);
        Self(shared)
    }
}

impl Drop for Round<'_> {
    /// Workers that come from now on find no job. Those inside finish the items that they have taken.
    fn drop(&mut self) {
        self.0.round.0.fetch_add(1, SeqCst);
        let mut spins = 0;
        while self.0.inside.0.load(SeqCst) != 0 {
            spins += 1;
            match spins < LEAST_SPINS {
                true => spin_loop(),
                false => thread::yield_now(),
            }
        }
    }
}

impl PoolState {
    fn new(workers: usize) -> Self {
        Self {
            round: CacheLine(AtomicU64::new(0)),
            next: CacheLine(AtomicUsize::new(0)),
            inside: CacheLine(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job {
                call: |_, _| {},
                work: std::ptr::null(),
                count: 0,
                chunk: 1,
            }),
            used: AtomicUsize::new(0),
            spins: AtomicU32::new(LEAST_SPINS),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    /// The loop of a worker thread.
    fn serve(&self, number: usize) {
        let mut last = 0;
        while let Some(round) = self.wait(number, last) {
            last = round;
            self.inside.0.fetch_add(1, SeqCst);
            // Only now is it certain that the round lasts until this worker has left.
            if self.round.0.load(SeqCst) == round {
                // SAFETY: the round is on, and nobody writes the job before this worker has left.
                let working = AssertUnwindSafe(|| unsafe { self.work(*self.job.get()) });
                if let Err(panic) = catch_unwind(working) {
                    let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(panic);
                }
            }
            self.inside.0.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for the next round after `last`; None when the pool stops.
    fn wait(&self, number: usize, last: u64) -> Option<u64> {
        loop {
            for _ in 0..self.spins.load(SeqCst) {
                match self.look(number, last) {
                    Look::Round(round) => return Some(round),
                    Look::Stop => return None,
                    Look::Wait => spin_loop(),
                }
            }
            self.asleep[number].store(true, SeqCst);
            // A caller that begins a round later sees that this worker sleeps.
            if matches!(self.look(number, last), Look::Wait) {
                thread::park();
            }
            self.asleep[number].store(false, SeqCst);
        }
    }

    fn look(&self, number: usize, last: u64) -> Look {
        let round = self.round.0.load(SeqCst);
        let is_new = round % 2 == 1 && round != last;
        match is_new && number < self.used.load(SeqCst) {
            true => Look::Round(round),
            false if self.stop.load(SeqCst) => Look::Stop,
            false => Look::Wait,
        }
    }

    /// Takes items until none is left.
    ///
    /// # Safety
    /// The job is on.
    unsafe fn work(&self, job: Job) {
        loop {
            let first = self.next.0.fetch_add(job.chunk, SeqCst);
            if first >= job.count {
                return;
            }
            let items = first..job.count.min(first + job.chunk);
            // SAFETY: the caller promises it.
            unsafe { (job.call)(job.work, items) };
        }
    }
}

enum Look {
    Round(u64),
    Wait,
    Stop,
}

/// # Safety
/// `work` is an `F`.
unsafe fn call<F: Fn(Range<usize>)>(work: *const (), items: Range<usize>) {
    // SAFETY: the caller promises it.
    unsafe { (*work.cast::<F>())(items) }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Barrier, atomic::AtomicUsize},
    };

    use super::*;

    fn workers(count: usize, poll: u32) -> Workers {
        let workers = Workers::new(count);
        workers.set(count, poll);
        workers
    }

    fn for_each(workers: &Workers, count: usize, work: impl Fn(usize) + Sync) {
        workers.run(count, &|items: Range<usize>| items.for_each(&work));
    }

    #[test]
    fn every_item_is_done_once() {
        for (count, poll) in [(0, 0), (1, 0), (3, 50)] {
            let workers = workers(count, poll);
            for items in (0..300).chain([10_000]) {
                let done: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                for_each(&workers, items, |item| {
                    done[item].fetch_add(1, SeqCst);
                });
                assert!(done.iter().all(|done| done.load(SeqCst) == 1));
            }
        }
    }

    /// The number of threads that compute something together, the caller's included.
    fn threads_of(workers: &Workers, expected: usize) -> usize {
        let (all, ids) = (Barrier::new(expected), Mutex::new(HashSet::new()));
        for_each(workers, expected, |_| {
            ids.lock().unwrap().insert(thread::current().id());
            all.wait();
        });
        ids.into_inner().unwrap().len()
    }

    #[test]
    fn as_many_workers_take_part_as_are_wanted() {
        let workers = workers(3, 0);
        assert_eq!(threads_of(&workers, 4), 4);
        workers.set(1, 0);
        assert_eq!(threads_of(&workers, 2), 2);
        workers.set(9, 0);
        assert_eq!(threads_of(&workers, 4), 4);
    }

    #[test]
    fn a_job_within_a_job_is_done_by_its_caller() {
        let (workers, done) = (workers(2, 0), AtomicUsize::new(0));
        for_each(&workers, 20, |_| {
            for_each(&workers, 20, |_| {
                done.fetch_add(1, SeqCst);
            });
        });
        assert_eq!(done.load(SeqCst), 400);
    }

    #[test]
    fn a_panic_comes_back_and_the_workers_go_on() {
        let workers = workers(2, 0);
        for at in 0..50 {
            let failed = catch_unwind(AssertUnwindSafe(|| {
                for_each(&workers, 50, |item| assert_ne!(item, at, "not this one"));
            }));
            assert!(failed.is_err());
            let done = AtomicUsize::new(0);
            for_each(&workers, 50, |_| {
                done.fetch_add(1, SeqCst);
            });
            assert_eq!(done.load(SeqCst), 50);
        }
    }
}
