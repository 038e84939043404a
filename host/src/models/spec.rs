//! How a served model is made, kept so that it can be made again: after the plugin broke, or at another level.

use std::path::PathBuf;

use prometheus::IntCounter;
use tenon_plugin_api::{ModelInfo, levels};
use tokio_util::sync::CancellationToken;

use super::{ChatOptions, progress::progress};
use crate::{plugin::ReportProgress, runner::Maker};

/// How a model is made.
pub struct ModelSpec {
    /// The name that requests use.
    pub id: String,
    /// The id of the plugin that loads it.
    pub backend: String,
    /// The version of that plugin.
    pub plugin_version: String,
    /// The file of that plugin.
    pub plugin_path: PathBuf,
    /// The level of the configuration. None: that of the model's file.
    pub level: Option<String>,
    /// Makes the model's runners.
    pub maker: Box<dyn Maker>,
    /// How many times within ten minutes the model is started again after its worker ended. None: it has no worker.
    pub max_restarts: Option<u32>,
    /// The counter of restarts.
    pub restarts: IntCounter,
    /// Most sequences that may wait.
    pub max_queue: usize,
    /// Settings that replace what the model says about its chats.
    pub chat: ChatOptions,
    /// Most memory that the model may take.
    pub memory_limit_bytes: Option<u64>,
    /// Whether the model may stop answering during a change of level if memory is too small for two models.
    pub in_place: bool,
    /// Cancels long calls when the server stops.
    pub draining: CancellationToken,
}

impl ModelSpec {
    /// Shows progress on a terminal, and cancels the load when the server stops.
    pub fn progress(&self) -> ReportProgress {
        progress(&self.id, self.draining.clone())
    }
}

/// Warnings for users about the model's weights, a sentence each.
pub fn weight_warnings(info: &ModelInfo) -> Vec<String> {
    let (level, source) = (&info.quantization, &info.source_quantization);
    let mut warnings = Vec::new();
    let known = levels::find(level).zip(levels::find(source));
    if let Some((to, from)) = known.filter(|(to, from)| to != from && from.tensor.block > 1) {
        warnings.push(match to.rank() < from.rank() {
            true => format!(
                "the model's file is at {source}: {level} takes more memory, but cannot restore what was lost"
            ),
            false => format!(
                "the model's file is at {source}: {level} made of it is worse than {level} made of the original weights"
            ),
        });
    }
    if info.fallback_tensors > 0 {
        warnings.push(format!(
            "tensors at another type than {level}, because their shape does not divide into its blocks: {}",
            info.fallback_tensors
        ));
    }
    warnings
}
