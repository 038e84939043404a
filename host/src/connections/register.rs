//! The register of all connections: limits their number, and closes those that must give way or have taken too long.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::{sync::Notify, time::interval};

use super::activity::{Activity, Close, Patience};
use crate::metrics::registered;

/// The time between two checks of all connections.
const ROUND: Duration = Duration::from_millis(250);

/// All open connections.
pub struct Register {
    open: Mutex<Open>,
    left: Notify,
    metrics: Metrics,
}

/// The metrics of connections.
#[derive(Clone)]
pub struct Metrics {
    pub open: IntGauge,
    pub refused: IntCounter,
}

struct Open {
    connections: Vec<Arc<Activity>>,
    most: usize,
    patience: Patience,
    is_stopping: bool,
}

impl Metrics {
    /// Creates and registers the metrics.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGauge::new("tenon_http_connections", "Connections that are open")?;
        let refused = IntCounter::new(
            "tenon_http_connections_refused_total",
            "Connections for which there was no place",
        )?;
        Ok(Self {
            open: registered(registry, open)?,
            refused: registered(registry, refused)?,
        })
    }
}

impl Register {
    pub fn new(most: usize, patience: Patience, metrics: Metrics) -> Self {
        Self {
            open: Mutex::new(Open {
                connections: Vec::new(),
                most,
                patience,
                is_stopping: false,
            }),
            left: Notify::new(),
            metrics,
        }
    }

    /// Sets other limits. If there are more connections already, all of them stay.
    pub fn set_limits(&self, most: usize, patience: Patience) {
        let mut open = self.open();
        (open.most, open.patience) = (most, patience);
    }

    /// Takes a place for a new connection. If all are taken, closes the connection that has been idle for longest. None if
    /// every connection is busy.
    pub fn enter(&self) -> Option<Arc<Activity>> {
        let mut open = self.open();
        if open.connections.len() >= open.most && !open.give_way() {
            self.metrics.refused.inc();
            return None;
        }
        let activity = Arc::new(Activity::new(open.is_stopping));
        open.connections.push(activity.clone());
        self.count(&open);
        Some(activity)
    }

    /// Frees the place of a closed connection.
    pub fn leave(&self, activity: &Arc<Activity>) {
        let mut open = self.open();
        open.remove(activity);
        self.count(&open);
        self.left.notify_waiters();
    }

    /// Closes the connection that has been idle for longest, if any is idle.
    pub fn give_way(&self) {
        self.open().give_way();
    }

    /// Closes connections whose time is up. Never returns.
    pub async fn watch(&self) {
        let mut rounds = interval(ROUND);
        loop {
            rounds.tick().await;
            let now = Instant::now();
            let open = self.open();
            for activity in &open.connections {
                if let Some(why) = activity.overdue(now, &open.patience) {
                    activity.close(why);
                }
            }
        }
    }

    /// Closes idle connections at once and busy ones after their request, and waits until all are closed. Connections that
    /// are made later do not count.
    pub async fn stop(&self) {
        {
            let mut open = self.open();
            open.is_stopping = true;
            for activity in &open.connections {
                activity.close(Close::Stopping);
            }
        }
        loop {
            let left = self.left.notified();
            if self.open().connections.iter().all(|one| one.is_late) {
                return;
            }
            left.await;
        }
    }

    fn count(&self, open: &Open) {
        self.metrics.open.set(open.connections.len() as i64);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn give_way(&mut self) -> bool {
        let ranked = self
            .connections
            .iter()
            .filter_map(|one| Some((one.rank()?, one)));
        let Some((_, last)) = ranked.min_by_key(|(rank, _)| *rank) else {
            return false;
        };
        let last = last.clone();
        last.close(Close::Idle);
        self.remove(&last);
        true
    }

    fn remove(&mut self, activity: &Arc<Activity>) {
        let mut all = self.connections.iter();
        if let Some(place) = all.position(|one| Arc::ptr_eq(one, activity)) {
            self.connections.swap_remove(place);
        }
    }
}
