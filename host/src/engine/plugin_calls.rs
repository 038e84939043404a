//! How long the calls of the plugin take that the engine's threads make.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The calls of the plugin that an engine's threads make. Clones are the same, and do not keep the engine running.
#[derive(Clone, Default)]
pub struct PluginCalls {
    /// Of the model thread.
    pub(super) steps: Arc<Stopwatch>,
    /// Of the thread for embeddings.
    pub(super) embeddings: Arc<Stopwatch>,
}

impl PluginCalls {
    /// How long the plugin has taken so far for the step, or the turn of embeddings, that began first. Zero if none is computed.
    pub fn age(&self) -> Duration {
        self.steps.age().max(self.embeddings.age())
    }
}

/// Measures how long a thread's work takes, while it takes.
pub struct Stopwatch {
    /// When the work began, in milliseconds after `created`. 0: there is none.
    began: AtomicU64,
    created: Instant,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            began: AtomicU64::new(0),
            created: Instant::now(),
        }
    }
}

impl Stopwatch {
    /// Does work of this thread.
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        self.began.store(self.millis().max(1), Relaxed);
        let result = work();
        self.began.store(0, Relaxed);
        result
    }

    /// How long the work has taken so far. Zero if there is none.
    fn age(&self) -> Duration {
        match self.began.load(Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_millis(self.millis().saturating_sub(began)),
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
    fn the_age_is_that_of_the_work_that_is_done_now() {
        let calls = PluginCalls::default();
        let pause = Duration::from_millis(30);
        for stopwatch in [&calls.steps, &calls.embeddings] {
            assert_eq!(calls.age(), Duration::ZERO);
            let age = stopwatch.time(|| {
                sleep(pause);
                calls.age()
            });
            // The beginning is up to a millisecond late.
            assert!(age + Duration::from_millis(1) >= pause, "{age:?}");
        }
        assert_eq!(calls.age(), Duration::ZERO);
    }
}
