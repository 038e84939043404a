//! The last minutes of the server: samples of its counters, for the status page.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

/// The time from a sample to the next one.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time that samples are kept.
pub const SPAN: Duration = Duration::from_secs(600);

/// The counts since the server began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub prompt_tokens: f64,
    pub completion_tokens: f64,
    pub requests: f64,
    /// Requests that were answered with a status of 500 or more.
    pub failures: f64,
}

/// The counts of a part of the last minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slice {
    /// How long ago the part ended.
    pub age: Duration,
    pub length: Duration,
    pub counted: Totals,
}

/// Samples of the last minutes. Clones share them.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<(Instant, Totals)>>>);

impl History {
    /// Takes samples. Never returns.
    pub async fn watch(&self, totals: impl Fn() -> Totals) {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.note(Instant::now(), totals());
        }
    }

    fn note(&self, now: Instant, totals: Totals) {
        let mut samples = self.samples();
        samples.push_back((now, totals));
        while samples.front().is_some_and(|&(at, _)| now - at > SPAN) {
            samples.pop_front();
        }
    }

    /// The counts from each sample to the next one, oldest first.
    pub fn slices(&self) -> Vec<Slice> {
        self.slices_at(Instant::now())
    }

    fn slices_at(&self, now: Instant) -> Vec<Slice> {
        let samples = self.samples();
        let pairs = samples.iter().zip(samples.iter().skip(1));
        let slices = pairs.map(|((begin, before), (end, after))| Slice {
            age: now.saturating_duration_since(*end),
            length: *end - *begin,
            counted: after.since(before),
        });
        slices.collect()
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<(Instant, Totals)>> {
        // A panic while the lock was held leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn since(&self, before: &Self) -> Self {
        // The counts of a removed model leave the sums.
        let since = |now: f64, before: f64| (now - before).max(0.0);
        Self {
            prompt_tokens: since(self.prompt_tokens, before.prompt_tokens),
            completion_tokens: since(self.completion_tokens, before.completion_tokens),
            requests: since(self.requests, before.requests),
            failures: since(self.failures, before.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_have_what_was_counted_between_samples_of_the_last_minutes() {
        let history = History::default();
        let begin = Instant::now();
        let tokens = |completion_tokens| Totals {
            completion_tokens,
            ..Totals::default()
        };
        for (second, count) in [(0, 1.0), (595, 9.0), (600, 4.0), (605, 4.0), (610, 14.0)] {
            history.note(begin + Duration::from_secs(second), tokens(count));
        }
        let now = begin + Duration::from_secs(612);
        let five = Duration::from_secs(5);
        let slice = |age, count| Slice {
            age: Duration::from_secs(age),
            length: five,
            counted: tokens(count),
        };
        assert_eq!(
            history.slices_at(now),
            [slice(12, 0.0), slice(7, 0.0), slice(2, 10.0)]
        );
    }
}
