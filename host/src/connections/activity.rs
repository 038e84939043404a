//! The current activity of a connection, and whether it takes too long.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::stream::ClientAddress;
use crate::config;

/// How long a connection may stay open in each phase without progress.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The time from the first byte of a request's head to its last, and from the connection's start to its first request.
    pub head: Duration,
    /// The time between two requests.
    pub idle: Duration,
    /// The time during which the client takes none of the bytes that wait for it.
    pub unread: Duration,
}

impl Patience {
    pub fn new(server: &config::Server) -> Self {
        Self {
            head: server.header_timeout,
            idle: server.idle_timeout,
            // The engine ends the stream after half this time, with an error event.
            unread: server.write_timeout * 2,
        }
    }
}

/// Why a connection is closed. The reason decides how it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The server stops. A running request is answered first.
    Stopping,
    /// The client has sent nothing for too long, or another client needs the place.
    Idle,
    /// A request's head did not arrive completely in time.
    LateHead,
    /// The client does not read its answer.
    Unread,
}

/// The state of a connection, shared by its task, its socket and the register.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<ActivityState>,
    told: Notify,
    /// The client of the connection. None if it is not known.
    pub client: Option<ClientAddress>,
    /// Whether the connection was made after the server began to stop.
    pub is_late: bool,
    /// Whether several requests share the connection at the same time, as in HTTP/2.
    is_multiplexed: AtomicBool,
}

#[derive(Debug)]
struct ActivityState {
    /// The number of requests that are being answered. One at most, unless several share the connection.
    requests: u32,
    /// The number of requests that wait until their client takes a piece of the answer. Only where several share the connection.
    held_up: u32,
    /// When one of the requests last made progress.
    progress: Instant,
    has_answered: bool,
    idle_since: Instant,
    /// When the first byte of a head arrived. None once the head is complete.
    head_since: Option<Instant>,
    /// When the client last took bytes. None if no bytes wait for it.
    unwritten_since: Option<Instant>,
    close: Option<Close>,
}

impl Activity {
    pub fn new(client: Option<ClientAddress>, is_late: bool) -> Self {
        Self {
            state: Mutex::new(ActivityState {
                requests: 0,
                held_up: 0,
                progress: Instant::now(),
                has_answered: false,
                idle_since: Instant::now(),
                head_since: None,
                unwritten_since: None,
                close: None,
            }),
            told: Notify::new(),
            client,
            is_late,
            is_multiplexed: AtomicBool::new(false),
        }
    }

    /// Records that several requests share the connection. Its client may then send something between requests, so only the idle time
    /// counts.
    pub fn multiplex(&self) {
        self.is_multiplexed.store(true, Ordering::Relaxed);
        self.state().head_since = None;
    }

    pub fn is_multiplexed(&self) -> bool {
        self.is_multiplexed.load(Ordering::Relaxed)
    }

    /// Records that a request has to wait for its client, or can continue.
    pub fn hold_up(&self, is_held_up: bool) {
        let mut state = self.state();
        state.progress = Instant::now();
        match is_held_up {
            true => state.held_up += 1,
            false => state.held_up -= 1,
        }
    }

    /// Records that bytes arrived.
    pub fn received(&self) {
        let mut state = self.state();
        if state.requests == 0 && !self.is_multiplexed() {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Records that the client took bytes, and that more may follow. Restarts the time of `unread`.
    pub fn writing(&self) {
        self.state().unwritten_since = Some(Instant::now());
    }

    /// Records that the socket takes no more bytes at the moment. The time of `unread` counts from the last bytes that it
    /// took.
    pub fn write_blocked(&self) {
        self.state()
            .unwritten_since
            .get_or_insert_with(Instant::now);
    }

    /// Records that everything is written.
    pub fn written(&self) {
        self.state().unwritten_since = None;
    }

    /// Whether no bytes wait to be written.
    pub fn is_written(&self) -> bool {
        self.state().unwritten_since.is_none()
    }

    /// Records that a request's head is complete.
    pub fn begin_request(&self) {
        let mut state = self.state();
        state.requests += 1;
        state.head_since = None;
    }

    /// Records that a request is answered.
    pub fn end_request(&self) {
        let mut state = self.state();
        state.requests -= 1;
        state.has_answered = true;
        state.idle_since = Instant::now();
    }

    /// Whether a request is being answered, or its answer still being written.
    pub fn is_busy(&self) -> bool {
        self.state().is_busy()
    }

    /// Tells the connection's task to close it. The first reason counts, except that any reason may follow
    /// [`Close::Stopping`].
    pub fn close(&self, why: Close) {
        let mut state = self.state();
        if state.close.is_none_or(|told| told == Close::Stopping) && state.close != Some(why) {
            state.close = Some(why);
            self.told.notify_one();
        }
    }

    /// Waits until the connection has to be closed, or the reason has changed.
    pub async fn told_to_close(&self) -> Close {
        loop {
            self.told.notified().await;
            if let Some(why) = self.state().close {
                return why;
            }
        }
    }

    /// Why the connection has to be closed now. None if it may stay open.
    pub fn overdue(&self, now: Instant, patience: &Patience) -> Option<Close> {
        let state = self.state();
        let longer = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if let Some(since) = state.unwritten_since {
            return longer(since, patience.unread).then_some(Close::Unread);
        }
        if state.requests > 0 {
            let all_wait = state.held_up == state.requests;
            let is_unread = all_wait && longer(state.progress, patience.unread);
            return is_unread.then_some(Close::Unread);
        }
        if let Some(since) = state.head_since {
            return longer(since, patience.head).then_some(Close::LateHead);
        }
        let limit = match state.has_answered {
            true => patience.idle,
            false => patience.head,
        };
        longer(state.idle_since, limit).then_some(Close::Idle)
    }

    /// The order in which connections give way to a new one: the lowest first. None if the connection is busy. A connection
    /// with an incomplete head ranks above an idle one.
    pub fn rank(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        let since = state.head_since.unwrap_or(state.idle_since);
        (!state.is_busy() && state.close.is_none()).then_some((state.head_since.is_some(), since))
    }

    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActivityState {
    fn is_busy(&self) -> bool {
        self.requests > 0 || self.unwritten_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(65),
        unread: Duration::from_secs(120),
    };

    #[track_caller]
    fn check(activity: &Activity, secs: u64, expected: Option<Close>) {
        let then = Instant::now() + Duration::from_secs(secs);
        assert_eq!(activity.overdue(then, &PATIENCE), expected);
    }

    #[test]
    fn each_phase_has_its_patience() {
        let activity = Activity::new(None, false);
        check(&activity, 14, None);
        check(&activity, 16, Some(Close::Idle));
        activity.received();
        check(&activity, 14, None);
        check(&activity, 16, Some(Close::LateHead));
        activity.begin_request();
        check(&activity, 1000, None);
        activity.writing();
        check(&activity, 119, None);
        check(&activity, 121, Some(Close::Unread));
        activity.written();
        activity.end_request();
        check(&activity, 64, None);
        check(&activity, 66, Some(Close::Idle));
    }

    #[test]
    fn a_shared_connection_is_closed_when_nobody_reads_there() {
        let activity = Activity::new(None, false);
        activity.received();
        activity.multiplex();
        // Whatever arrives between requests is no head.
        activity.received();
        check(&activity, 14, None);
        check(&activity, 16, Some(Close::Idle));
        activity.begin_request();
        activity.begin_request();
        activity.hold_up(true);
        check(&activity, 1000, None);
        activity.hold_up(true);
        check(&activity, 119, None);
        check(&activity, 121, Some(Close::Unread));
        activity.hold_up(false);
        check(&activity, 1000, None);
        activity.end_request();
        check(&activity, 121, Some(Close::Unread));
    }

    #[test]
    fn only_those_that_do_nothing_give_way() {
        let (silent, begun, busy) = (
            Activity::new(None, false),
            Activity::new(None, false),
            Activity::new(None, false),
        );
        begun.received();
        busy.begin_request();
        assert!(silent.rank() < begun.rank());
        assert!(silent.rank().is_some());
        assert_eq!(busy.rank(), None);
        silent.close(Close::Idle);
        assert_eq!(silent.rank(), None);
    }
}
