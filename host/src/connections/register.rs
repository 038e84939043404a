//! The register of all connections: limits their number, and closes those that must give way or have taken too long.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::{sync::Notify, time::interval};

use super::{
    activity::{Activity, Close, Patience},
    descriptors::bounded,
    stream::ClientAddress,
};
use crate::{config, metrics::registered};

/// The time between two checks of all connections.
const ROUND: Duration = Duration::from_millis(250);

/// All open connections.
pub struct Register {
    open: Mutex<OpenConnections>,
    left: Notify,
    metrics: ConnectionMetrics,
}

/// The metrics of connections.
#[derive(Clone)]
pub struct ConnectionMetrics {
    pub open: IntGauge,
    pub refused: IntCounter,
}

struct OpenConnections {
    connections: Vec<Arc<Activity>>,
    limits: Limits,
    is_stopping: bool,
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections.
    most: usize,
    /// Most connections of one client. None: no limit.
    most_of_client: Option<usize>,
    patience: Patience,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All places are taken, and every connection is busy.
    Server,
    /// The client has as many connections as it may have, and all are busy.
    Client,
}

impl Limits {
    /// The limits of a configuration, as far as the limit of descriptors allows them.
    pub fn new(server: &config::Server) -> Self {
        Self {
            most: bounded(server.max_connections),
            most_of_client: server.max_connections_per_client,
            patience: Patience::new(server),
        }
    }
}

impl ConnectionMetrics {
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
    pub fn new(limits: Limits, metrics: ConnectionMetrics) -> Self {
        Self {
            open: Mutex::new(OpenConnections {
                connections: Vec::new(),
                limits,
                is_stopping: false,
            }),
            left: Notify::new(),
            metrics,
        }
    }

    /// Sets other limits. If there are more connections already, all of them stay.
    pub fn set_limits(&self, limits: Limits) {
        self.open().limits = limits;
    }

    /// Takes a place for a new connection of a client. If all are taken, or all that the client may have, closes the one of them that
    /// has been idle for longest.
    ///
    /// # Errors
    /// Every such connection is busy.
    pub fn enter(&self, client: Option<ClientAddress>) -> Result<Arc<Activity>, Full> {
        let mut open = self.open();
        if let Err(full) = open.make_room(client) {
            self.metrics.refused.inc();
            return Err(full);
        }
        let activity = Arc::new(Activity::new(client, open.is_stopping));
        open.connections.push(activity.clone());
        self.count(&open);
        Ok(activity)
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
        self.open().give_way(|_| true);
    }

    /// Closes connections whose time is up. Never returns.
    pub async fn watch(&self) {
        let mut rounds = interval(ROUND);
        loop {
            rounds.tick().await;
            let now = Instant::now();
            let open = self.open();
            for activity in &open.connections {
                if let Some(why) = activity.overdue(now, &open.limits.patience) {
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

    fn count(&self, open: &OpenConnections) {
        self.metrics.open.set(open.connections.len() as i64);
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Makes room for one more connection of a client, if there is none.
    fn make_room(&mut self, client: Option<ClientAddress>) -> Result<(), Full> {
        let is_its = |one: &Activity| client.is_some() && one.client == client;
        let count = self.connections.iter().filter(|one| is_its(one)).count();
        let most = self.limits.most_of_client.unwrap_or(usize::MAX);
        if count >= most && !self.give_way(is_its) {
            return Err(Full::Client);
        }
        if self.connections.len() >= self.limits.most && !self.give_way(|_| true) {
            return Err(Full::Server);
        }
        Ok(())
    }

    /// Closes that one of these connections that has been idle for longest. Returns whether one was idle.
    fn give_way(&mut self, may: impl Fn(&Activity) -> bool) -> bool {
        let connections = self.connections.iter().filter(|one| may(one));
        let ranked = connections.filter_map(|one| Some((one.rank()?, one)));
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
