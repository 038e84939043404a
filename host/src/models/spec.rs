//! How a served model is made, kept so that it can be made again: after the plugin broke, or at another level.

use std::sync::Arc;

use tenon_plugin_api::{Error, Estimate, LoadArgs, ModelInfo, SamplingDefaults, levels};
use tokio_util::sync::CancellationToken;

use super::{ChatOptions, progress::progress};
use crate::{
    config,
    engine::{EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    plugin::{Backend, ReportProgress},
};

/// How a model is made.
pub struct ModelSpec {
    /// The name that requests use.
    pub id: String,
    /// The plugin that loads it.
    pub backend: Arc<Backend>,
    /// What to load. The level is set for each load.
    pub args: LoadArgs,
    /// Sampling parameters that replace the model's recommended ones.
    pub sampling: SamplingDefaults,
    /// Limits of what one request may ask for.
    pub bounds: config::RequestBounds,
    /// Options of the engine.
    pub engine: EngineOptions,
    /// Metrics. All engines of the model use the same.
    pub metrics: EngineMetrics,
    /// Limits of what grammars of requests may cost.
    pub grammar: config::Grammar,
    /// Threads for grammars, shared by all models.
    pub grammar_threads: Arc<GrammarThreads>,
    /// Metrics of grammars. All engines of the model use the same.
    pub grammar_metrics: GrammarMetrics,
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
    /// Memory that the model takes at a level, with a KV pool of `kv_tokens`.
    ///
    /// # Errors
    /// `UNSUPPORTED` for a backend that gives no estimates.
    pub fn memory_bytes(&self, level: Option<&str>, kv_tokens: u32) -> Result<u64, Error> {
        let session = &self.engine.session;
        let estimates = self.backend.estimate(&self.args_at(level), session)?;
        let bytes = estimates.iter().map(|estimate| {
            let weights = estimate.weight_bytes.saturating_add(estimate.compute_bytes);
            let sequences = estimate
                .sequence_bytes
                .saturating_mul(session.max_sequences.into());
            let kv = kv_bytes(estimate, kv_tokens);
            weights.saturating_add(sequences).saturating_add(kv)
        });
        Ok(bytes.fold(0, u64::saturating_add))
    }

    /// Main memory that a KV pool of `kv_tokens` takes.
    ///
    /// # Errors
    /// As [`memory_bytes`](Self::memory_bytes).
    pub fn kv_bytes_on_cpu(&self, level: Option<&str>, kv_tokens: u32) -> Result<u64, Error> {
        let session = &self.engine.session;
        let estimates = self.backend.estimate(&self.args_at(level), session)?;
        let on_cpu = estimates.iter().filter(|estimate| estimate.device == "cpu");
        let bytes = on_cpu.map(|estimate| kv_bytes(estimate, kv_tokens));
        Ok(bytes.fold(0, u64::saturating_add))
    }

    /// Shows progress on a terminal, and cancels the load when the server stops.
    pub fn progress(&self) -> ReportProgress {
        progress(&self.id, self.draining.clone())
    }

    pub(super) fn args_at(&self, level: Option<&str>) -> LoadArgs {
        LoadArgs {
            quantize: level.map(str::to_owned),
            ..self.args.clone()
        }
    }
}

fn kv_bytes(estimate: &Estimate, kv_tokens: u32) -> u64 {
    estimate.kv_bytes_per_token.saturating_mul(kv_tokens.into())
}

/// What users of this model should know about its weights, a sentence each.
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
