//! What all requests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use crate::{config, metrics::Metrics, model::ServedModel};

/// State of the server. Requests only read it, or hold a lock for as long as a clone takes, never across an await.
pub struct App {
    /// Models in the order of the configuration; the first is the default.
    models: Vec<Arc<ServedModel>>,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// How the HTTP side behaves.
    pub server: config::Server,
    draining: AtomicBool,
}

impl App {
    /// Serves these models, which may still be loading.
    pub fn new(models: Vec<ServedModel>, metrics: Metrics, server: &config::Server) -> Self {
        Self {
            models: models.into_iter().map(Arc::new).collect(),
            metrics,
            server: server.clone(),
            draining: AtomicBool::new(false),
        }
    }

    /// All models, the default first.
    pub fn models(&self) -> &[Arc<ServedModel>] {
        &self.models
    }

    /// The model of this name; the default for none.
    pub fn model(&self, name: Option<&str>) -> Option<&Arc<ServedModel>> {
        match name {
            None | Some("") => self.models.first(),
            Some(name) => self.models.iter().find(|model| model.is_called(name)),
        }
    }

    /// From now on no new work is taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Now, as the API writes times.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
