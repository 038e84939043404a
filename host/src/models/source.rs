//! What served models are made from.

use std::sync::Arc;

use super::{LoadedModel, ModelSpec};

/// Says how a served model is made, each time anew: with the plugin and the chat template that are there by then.
pub trait Source: Send + Sync {
    /// How the model is made now.
    ///
    /// # Errors
    /// There is no plugin for it, or its chat template cannot be read.
    fn spec(&self) -> anyhow::Result<ModelSpec>;
}

impl dyn Source {
    /// Loads the model at the level of `like`. None: at that of the configuration. Blocks.
    ///
    /// # Errors
    /// Why the model cannot be loaded.
    pub fn load(&self, like: Option<&LoadedModel>) -> anyhow::Result<LoadedModel> {
        let spec = Arc::new(self.spec()?);
        let level = match like {
            Some(model) => model.level.clone(),
            None => spec.level.clone(),
        };
        Ok(spec.load(level.as_deref(), spec.progress())?)
    }
}
