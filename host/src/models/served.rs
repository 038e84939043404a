//! A model's names and state.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, watch};

use super::LoadedModel;
use crate::engine::End;

/// A model as it is served: its names, and its state, whatever that is.
pub struct ServedModel {
    /// The name that requests use.
    pub id: String,
    /// Other names that requests may use. One that ends with `*` stands for all names with the beginning before it.
    pub aliases: Vec<String>,
    /// Changes while the server runs. Locked only for a clone.
    state: watch::Sender<ModelState>,
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
    /// The model's worker ended, for this reason, and is started again.
    Restarting(String),
    /// The model does not answer, for this reason.
    Failed(String),
}

impl ServedModel {
    /// A model that is about to be loaded.
    pub fn new(id: String, aliases: Vec<String>) -> Self {
        Self {
            id,
            aliases,
            state: watch::Sender::new(ModelState::Loading),
            former: Arc::default(),
        }
    }

    /// The permission to change the level, held until it is dropped. None if someone else holds it.
    pub fn begin_change(&self) -> Option<RightToChange> {
        self.former.clone().try_lock_owned().ok()
    }

    /// The permission to change the model, as soon as nobody else holds it.
    pub async fn next_change(&self) -> RightToChange {
        self.former.clone().lock_owned().await
    }

    /// Whether this is one of the model's names.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Whether one of the model's aliases stands for this name among others.
    pub fn may_be_called(&self, name: &str) -> bool {
        let aliases = self.aliases.iter();
        let mut beginnings = aliases.filter_map(|alias| alias.strip_suffix('*'));
        beginnings.any(|beginning| name.starts_with(beginning))
    }

    /// The state now. A model that broke no longer counts as ready, even if nothing was done about it so far.
    pub fn state(&self) -> ModelState {
        self.state.borrow().seen_now()
    }

    /// The state once the model is not being started again any more.
    pub async fn settled(&self) -> ModelState {
        let mut changes = self.state.subscribe();
        let is_settled =
            |state: &ModelState| !matches!(state.seen_now(), ModelState::Restarting(_));
        match changes.wait_for(is_settled).await {
            Ok(state) => state.seen_now(),
            // The sender is in `self`.
            Err(_) => self.state(),
        }
    }

    /// Whether new requests get this model, or would if it had not broken.
    pub fn answers_with(&self, model: &Arc<LoadedModel>) -> bool {
        matches!(&*self.state.borrow(), ModelState::Ready(current) if Arc::ptr_eq(current, model))
    }

    /// Sets the state. Running requests keep the model that they began with.
    pub fn set_state(&self, state: ModelState) {
        self.state.send_replace(state);
    }
}

impl ModelState {
    fn seen_now(&self) -> Self {
        match self {
            Self::Ready(model) => match model.runner.failure() {
                Some(error) if model.spec.max_restarts.is_some() => Self::Restarting(error.message),
                Some(error) => Self::Failed(error.message),
                None => self.clone(),
            },
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_may_stand_for_all_names_with_its_beginning() {
        let aliases = ["gpt", "claude-*"].map(str::to_owned);
        let model = ServedModel::new("small".to_owned(), aliases.to_vec());
        for (name, is_called, may_be_called) in [
            ("small", true, false),
            ("gpt", true, false),
            ("gpt-4", false, false),
            ("claude-opus", false, true),
            ("claude-", false, true),
            ("claude", false, false),
        ] {
            assert_eq!(model.is_called(name), is_called, "{name}");
            assert_eq!(model.may_be_called(name), may_be_called, "{name}");
        }
    }
}
