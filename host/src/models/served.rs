//! A model's names and state.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::OwnedMutexGuard;

use super::LoadedModel;
use crate::engine::End;

/// A model as it is served: its names, and its state, whatever that is.
pub struct ServedModel {
    /// The name that requests use.
    pub id: String,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// Changes while the server runs. Locked only for a clone.
    state: RwLock<ModelState>,
    /// Locked while the level is changed.
    former: Arc<tokio::sync::Mutex<FormerModels>>,
}

/// Permission to requantize a model. Tracks the previous models until their last request ends.
pub type RightToChange = OwnedMutexGuard<FormerModels>;

/// Previous models that are about to end.
#[derive(Default)]
pub struct FormerModels(Vec<(End, u64)>);

impl FormerModels {
    /// Adds a model, with the bytes that it takes until it ends.
    pub fn push(&mut self, end: End, bytes: u64) {
        self.0.push((end, bytes));
    }

    /// Bytes that the models which have not ended take.
    pub fn bytes(&mut self) -> u64 {
        self.0.retain(|(end, _)| !end.has_come());
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Waits until all of them have ended.
    pub async fn ended(&mut self) {
        for (end, _) in &self.0 {
            end.clone().wait().await;
        }
        self.0.clear();
    }
}

/// State of a served model.
#[derive(Clone)]
pub enum ModelState {
    /// The model is being loaded.
    Loading,
    /// The model answers.
    Ready(Arc<LoadedModel>),
    /// The model does not answer, for this reason.
    Failed(String),
}

impl ServedModel {
    /// A model that is about to be loaded.
    pub fn new(id: String, aliases: Vec<String>) -> Self {
        Self {
            id,
            aliases,
            state: RwLock::new(ModelState::Loading),
            former: Arc::default(),
        }
    }

    /// The permission to change the level, held until it is dropped. None if someone else holds it.
    pub fn begin_change(&self) -> Option<RightToChange> {
        self.former.clone().try_lock_owned().ok()
    }

    /// Whether this is one of the model's names.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// The state now. A model whose engine broke counts as failed.
    pub fn state(&self) -> ModelState {
        let state = self
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match &state {
            ModelState::Ready(model) => match model.runner.failure() {
                Some(error) => ModelState::Failed(error.message),
                None => state,
            },
            _ => state,
        }
    }

    /// Sets the state. Running requests keep the model that they began with.
    pub fn set_state(&self, state: ModelState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
