//! All models that are served, and the configuration that they are served by.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{FormerModels, ServedModel};
use crate::{config::Config, metrics::Metrics, plugin::Current};

/// The configuration and its models at one time. A snapshot never changes: a change of the configuration makes another one.
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Its models, in its order. The first one is the default.
    pub models: Vec<Arc<ServedModel>>,
}

impl Snapshot {
    /// The models of a configuration, none of which was loaded so far.
    pub fn new(config: Config) -> Self {
        let models = config.models.iter().map(ServedModel::of);
        let models = models.map(Arc::new).collect();
        Self { config, models }
    }

    /// The model with this name or alias. The default model for no name or an empty one; None if there is no such model. An exact
    /// name or alias takes precedence over an alias that ends with `*`.
    pub fn model(&self, name: Option<&str>) -> Option<&Arc<ServedModel>> {
        match name {
            None | Some("") => self.models.first(),
            Some(name) => {
                let models = || self.models.iter();
                let exact = models().find(|model| model.is_called(name));
                exact.or_else(|| models().find(|model| model.may_be_called(name)))
            }
        }
    }

    /// The model with this id.
    pub fn with_id(&self, id: &str) -> Option<&Arc<ServedModel>> {
        self.models.iter().find(|model| model.id == id)
    }
}

/// All models that are served. Clones are the same catalog. Readers take a snapshot, and keep it for as long as they like.
#[derive(Clone)]
pub struct Catalog {
    current: Current<Arc<Snapshot>>,
    /// The server's metrics.
    pub metrics: Metrics,
    /// Models that were unloaded to make room for others, and have not ended. Locked while more are unloaded.
    pub(super) leaving: Arc<Mutex<FormerModels>>,
}

impl Catalog {
    /// A catalog whose first snapshot is this one.
    pub fn new(snapshot: Snapshot, metrics: Metrics) -> Self {
        let current = Current::new(Arc::new(snapshot));
        Self {
            current,
            metrics,
            leaving: Arc::default(),
        }
    }

    /// The current snapshot.
    pub fn now(&self) -> Arc<Snapshot> {
        self.current.get()
    }

    /// Replaces the current snapshot.
    pub fn set(&self, snapshot: Snapshot) {
        self.current.set(Arc::new(snapshot));
    }
}
