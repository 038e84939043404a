//! The state that all requests share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    config, kept_responses::KeptResponses, metrics::Metrics, models::ServedModel,
    plugin::CurrentPlugins,
};

/// The server's state. A request only reads it, or holds a lock for as long as a clone takes, never across an await.
pub struct App {
    /// The models, in the order of the configuration. The first one is the default.
    models: Vec<Arc<ServedModel>>,
    /// The plugins. None until they are found.
    pub plugins: CurrentPlugins,
    /// The counters that `/metrics` shows.
    pub metrics: Metrics,
    /// The `[server]` section of the configuration.
    pub server: config::Server,
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
    /// Makes the state of a server for these models, which may still be loading.
    pub fn new(
        models: Vec<ServedModel>,
        metrics: Metrics,
        server: &config::Server,
        responses: config::Responses,
    ) -> Self {
        Self {
            models: models.into_iter().map(Arc::new).collect(),
            plugins: CurrentPlugins::default(),
            metrics,
            server: server.clone(),
            responses: KeptResponses::new(responses),
            stopping: CancellationToken::new(),
            draining: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        }
    }

    /// All models, the default first.
    pub fn models(&self) -> &[Arc<ServedModel>] {
        &self.models
    }

    /// The model with this name or alias. The default model for no name or an empty one; None if there is no such model. A name
    /// that is written out comes before one that an alias with `*` stands for.
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
}
