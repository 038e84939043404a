//! Finds calls of the plugin that take too long.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::time::interval;

use super::messages::Id;
use crate::engine::{LONGEST, PluginCalls};

/// The interval at which the ages of calls are checked.
const LOOK: Duration = Duration::from_millis(250);

/// Limits of the duration of the plugin's calls.
#[derive(Clone, Copy)]
pub struct CallLimits {
    /// Limit of a step, a turn of embeddings, tokenizing, and an estimate. None: earlier steps and turns set their limit.
    pub call: Option<Duration>,
    /// Limit of a load, counted from its last report of progress.
    pub load: Duration,
}

/// Watches the calls of the plugin that a worker and its runners make.
pub struct Watchdog {
    limits: CallLimits,
    watched: Mutex<WatchedCalls>,
}

#[derive(Default)]
struct WatchedCalls {
    /// Calls of the runners that have not ended. A released runner ends with its last sequence.
    runners: HashMap<Id, PluginCalls>,
    /// Calls that the worker makes to answer the server.
    calls: HashMap<Id, WatchedCall>,
}

struct WatchedCall {
    kind: CallKind,
    /// When the call began, or last reported its progress.
    since: Instant,
}

/// The kinds of calls that a worker makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// The call loads a model.
    Load,
    /// The call tokenizes texts, or estimates the memory of a model.
    Other,
}

/// A call of the plugin that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Stuck {
    /// A call that computes.
    #[error(
        "it was stuck: a step, or the tokenizer, did not return within {} s; set a longer stuck_timeout_secs if the model is that slow",
        .0.as_secs()
    )]
    Call(Duration),
    /// The load that answers this question.
    #[error(
        "its load was stuck: it neither returned nor said how far it is for {} s; raise load_timeout_secs if the model loads that slowly",
        age.as_secs()
    )]
    Load { call: Id, age: Duration },
}

impl Watchdog {
    pub fn new(limits: CallLimits) -> Self {
        Self {
            limits,
            watched: Mutex::default(),
        }
    }

    /// Watches the calls of a runner's threads until it has ended.
    pub fn add(&self, runner: Id, calls: Option<PluginCalls>) {
        if let Some(calls) = calls {
            self.watched().runners.insert(runner, calls);
        }
    }

    /// Forgets a runner that has ended.
    pub fn remove(&self, runner: Id) {
        self.watched().runners.remove(&runner);
    }

    /// Watches a call that begins now.
    pub fn begin(&self, call: Id, kind: CallKind) {
        let since = Instant::now();
        self.watched()
            .calls
            .insert(call, WatchedCall { kind, since });
    }

    /// Notes that a call has made progress.
    pub fn renew(&self, call: Id) {
        if let Some(call) = self.watched().calls.get_mut(&call) {
            call.since = Instant::now();
        }
    }

    /// Forgets a call that has returned.
    pub fn end(&self, call: Id) {
        self.watched().calls.remove(&call);
    }

    /// Waits until a call has taken too long.
    pub async fn stuck(&self) -> Stuck {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(stuck) = self.find() {
                return stuck;
            }
        }
    }

    fn find(&self) -> Option<Stuck> {
        let (limits, watched) = (self.limits, self.watched());
        let of_runners = watched.runners.values();
        let computing = of_runners
            .filter_map(|calls| calls.stuck(limits.call))
            .max();
        let calls = watched.calls.iter();
        let mut stuck = calls.filter_map(|(id, call)| limits.exceeded_by(*id, call));
        computing.map(Stuck::Call).or_else(|| stuck.next())
    }

    fn watched(&self) -> MutexGuard<'_, WatchedCalls> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallLimits {
    fn exceeded_by(&self, id: Id, call: &WatchedCall) -> Option<Stuck> {
        let age = call.since.elapsed();
        match call.kind {
            CallKind::Load => (age > self.load).then_some(Stuck::Load { call: id, age }),
            CallKind::Other => (age > self.call.unwrap_or(LONGEST)).then_some(Stuck::Call(age)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_load_may_take_long_as_long_as_it_goes_forward() {
        let limits = CallLimits {
            call: Some(LONG),
            load: SHORT * 4,
        };
        let watchdog = Watchdog::new(limits);
        watchdog.begin(1, CallKind::Other);
        watchdog.begin(2, CallKind::Load);
        for _ in 0..8 {
            sleep(SHORT);
            watchdog.renew(2);
            assert_eq!(watchdog.find(), None);
        }
        sleep(limits.load + SHORT);
        assert!(matches!(watchdog.find(), Some(Stuck::Load { call: 2, .. })));
        watchdog.end(2);
        assert_eq!(watchdog.find(), None);
    }

    #[test]
    fn other_calls_have_a_limit_of_their_own() {
        let watchdog = Watchdog::new(CallLimits {
            call: Some(SHORT),
            load: LONG,
        });
        watchdog.begin(1, CallKind::Other);
        watchdog.begin(2, CallKind::Load);
        sleep(SHORT * 2);
        assert!(matches!(watchdog.find(), Some(Stuck::Call(_))));
        watchdog.end(1);
        assert_eq!(watchdog.find(), None);
    }
}
