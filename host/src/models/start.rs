//! Makes loaded models from their specification.

use std::sync::Arc;

use tenon_plugin_api::Error;

use super::{LoadedModel, ModelSpec};
use crate::plugin::ReportProgress;

impl ModelSpec {
    /// Loads the model at a level. None: at that of its file. Blocks.
    ///
    /// # Errors
    /// The model cannot be loaded, or would take more memory than it may.
    pub fn load(
        self: &Arc<Self>,
        level: Option<&str>,
        progress: ReportProgress,
    ) -> Result<LoadedModel, Error> {
        let runner = self.maker.load(level, progress)?;
        Ok(LoadedModel::new(
            self.clone(),
            runner,
            level.map(str::to_owned),
        ))
    }

    /// Makes the model at another level while `current` goes on answering. Blocks.
    ///
    /// # Errors
    /// The plugin cannot make it.
    pub fn beside(
        self: &Arc<Self>,
        current: &LoadedModel,
        level: &str,
        progress: ReportProgress,
    ) -> Result<LoadedModel, Error> {
        let runner = current.runner.beside(level, progress)?;
        Ok(LoadedModel::new(
            self.clone(),
            runner,
            Some(level.to_owned()),
        ))
    }
}
