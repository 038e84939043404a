//! Says how served models are made.

use std::{path::PathBuf, sync::Arc};

use super::{LoadedModel, ModelSpec};
use crate::hub::DownloadProgress;

/// Says how a served model is made. Each call uses the plugin and the chat template that exist then.
pub trait ModelSource: Send + Sync {
    /// How the model is made now.
    ///
    /// # Errors
    /// There is no plugin for the model, its chat template cannot be read, or its files are not fetched.
    fn spec(&self) -> anyhow::Result<ModelSpec>;

    /// Fetches the model's files if they are not on this machine. Blocks; to be called within a runtime.
    ///
    /// # Errors
    /// The files cannot be fetched.
    fn fetch(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// The model's file or directory. None if it is not on this machine so far.
    fn path(&self) -> Option<PathBuf> {
        None
    }

    /// The progress of the download of the model's files. None if no download runs.
    fn download(&self) -> Option<DownloadProgress> {
        None
    }
}

impl dyn ModelSource {
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
