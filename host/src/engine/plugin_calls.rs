//! Measures how long the engine's threads have been in a call of the plugin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long a call may take before its thread has measured one. No other call may take longer either.
pub const LONGEST: Duration = Duration::from_secs(300);
/// How long any call may take, because the machine may be busy with something else, or may read weights from the disk again.
const SHORTEST: Duration = Duration::from_secs(60);
/// How many times as long as the longest call so far another one may take. A step has at most some hundred times the tokens of a short
/// one.
const TIMES: u64 = 1000;

/// Stopwatches of the engine's threads for their calls of the plugin. Clones share them, and do not keep the engine running.
#[derive(Clone, Default)]
pub struct PluginCalls {
    /// The stopwatch of the model thread.
    pub(super) steps: Arc<Stopwatch>,
    /// The stopwatch of the thread for embeddings.
    pub(super) embeddings: Arc<Stopwatch>,
}

impl PluginCalls {
    /// How long the plugin has taken so far for a step, or a turn of embeddings, if that is longer than `limit`. Without a limit, the
    /// calls that the thread has measured set one.
    pub fn stuck(&self, limit: Option<Duration>) -> Option<Duration> {
        let stopwatches = [&self.steps, &self.embeddings];
        let stuck = stopwatches.into_iter().filter_map(|stopwatch| {
            let age = stopwatch.age();
            (age > limit.unwrap_or_else(|| stopwatch.limit())).then_some(age)
        });
        stuck.max()
    }
}

/// Measures how long a thread's work takes, while it takes.
pub struct Stopwatch {
    /// When the work began, in milliseconds after `created`. 0: there is none.
    began: AtomicU64,
    /// The longest work so far, in milliseconds.
    longest: AtomicU64,
    created: Instant,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            began: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            created: Instant::now(),
        }
    }
}

impl Stopwatch {
    /// Runs a piece of the thread's work and measures it.
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        let began = self.millis().max(1);
        self.began.store(began, Relaxed);
        let result = work();
        self.began.store(0, Relaxed);
        let took = self.millis().saturating_sub(began);
        self.longest.fetch_max(took, Relaxed);
        result
    }

    /// How long the work has taken so far. Zero if there is none.
    fn age(&self) -> Duration {
        match self.began.load(Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_millis(self.millis().saturating_sub(began)),
        }
    }

    /// How long the work may take, by what was measured. Work of less than a millisecond measures nothing: there was none to do.
    fn limit(&self) -> Duration {
        match self.longest.load(Relaxed) {
            0 => LONGEST,
            longest => {
                Duration::from_millis(longest.saturating_mul(TIMES)).clamp(SHORTEST, LONGEST)
            }
        }
    }

    fn millis(&self) -> u64 {
        self.created.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn work_that_takes_longer_than_the_limit_is_stuck_while_it_takes() {
        let calls = PluginCalls::default();
        let pause = Duration::from_millis(30);
        let [short, long] = [pause / 2, pause * 1000].map(Some);
        for stopwatch in [&calls.steps, &calls.embeddings] {
            assert_eq!(calls.stuck(short), None);
            let found = stopwatch.time(|| {
                sleep(pause);
                [calls.stuck(short), calls.stuck(long), calls.stuck(None)]
            });
            assert!(matches!(found, [Some(age), None, None] if age > pause / 2));
        }
        assert_eq!(calls.stuck(short), None);
    }

    #[test]
    fn measured_work_sets_the_limit() {
        let stopwatch = Stopwatch::default();
        assert_eq!(stopwatch.limit(), LONGEST);
        for (longest, limit) in [
            (1, SHORTEST),
            (100, Duration::from_secs(100)),
            (5000, LONGEST),
        ] {
            stopwatch.longest.store(longest, Relaxed);
            assert_eq!(stopwatch.limit(), limit);
        }
    }
}
