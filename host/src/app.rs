//! The state that all requests share.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use crate::{
    kept_responses::{KeptResponses, StoreError},
    metrics::Metrics,
    models::{Catalog, Snapshot},
    otel::Otel,
    plugin::CurrentPlugins,
    rereading::Rereading,
};

/// The server's state. A request only reads it, or holds a lock for as long as a clone takes, never across an await.
pub struct App {
    /// When the server began.
    pub started: Instant,
    /// Whether each model that is loaded at the start was loaded once, or has failed.
    pub started_up: AtomicBool,
    /// The models, and the configuration that they are served by.
    pub catalog: Catalog,
    /// The plugins. None until they are found.
    pub plugins: CurrentPlugins,
    /// The counters that `/metrics` shows.
    pub metrics: Metrics,
    /// Traces and metrics for a collector. None if there is no collector.
    pub otel: Option<Otel>,
    /// Orders that the configuration is read again.
    pub rereading: Rereading,
    /// Earlier responses of `/v1/responses`.
    pub responses: KeptResponses,
    /// Cancelled when the server is told to stop, by a signal or an administrator. From then on it is not ready, but still takes
    /// new work.
    pub stopping: CancellationToken,
    /// Cancelled when the drain delay is over. From then on the server takes no new work.
    pub draining: CancellationToken,
    /// Cancelled when the drain timeout is over. Whatever still runs then is ended.
    pub cut_off: CancellationToken,
}

impl App {
    /// Makes the state of a server of these models, which may still be loading.
    ///
    /// # Errors
    /// The file of responses cannot be used.
    pub fn new(
        snapshot: Snapshot,
        metrics: Metrics,
        rereading: Rereading,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            started: Instant::now(),
            started_up: AtomicBool::new(false),
            responses: KeptResponses::open(&snapshot.config.responses)?,
            catalog: Catalog::new(snapshot, metrics.clone()),
            plugins: CurrentPlugins::default(),
            metrics,
            otel: None,
            rereading,
            stopping: CancellationToken::new(),
            draining: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        })
    }

    /// The models and the configuration at this moment.
    pub fn now(&self) -> Arc<Snapshot> {
        self.catalog.now()
    }
}
