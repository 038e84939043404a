//! The recipe of a model: the settings from which a backend makes it.

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Estimate, LoadArgs, Result, SamplingDefaults};

use crate::{config, engine::EngineOptions, plugin::Backend};

/// The settings from which a backend makes a model.
#[derive(Clone, Serialize, Deserialize)]
pub struct Recipe {
    /// The name that requests use.
    pub model: String,
    /// The arguments of a load. The level is set for each load.
    pub args: LoadArgs,
    /// Sampling parameters that replace the model's recommended ones.
    pub sampling: SamplingDefaults,
    /// Options of the engine.
    pub engine: EngineOptions,
    /// Limits of what grammars of requests may cost.
    pub grammar: config::Grammar,
    /// Most memory that the model may take.
    pub memory_limit_bytes: Option<u64>,
}

impl Recipe {
    /// The arguments of a load at a level.
    pub fn args_at(&self, level: Option<&str>) -> LoadArgs {
        LoadArgs {
            quantize: level.map(str::to_owned),
            ..self.args.clone()
        }
    }

    /// Memory that the model takes at a level, with a KV pool of `kv_tokens`.
    ///
    /// # Errors
    /// `UNSUPPORTED` for a backend that gives no estimates.
    pub fn memory_bytes(
        &self,
        backend: &Backend,
        level: Option<&str>,
        kv_tokens: u32,
    ) -> Result<u64> {
        let session = &self.engine.session;
        let estimates = backend.estimate(&self.args_at(level), session)?;
        let bytes = estimates
            .iter()
            .map(|estimate| self.bytes_of(estimate, kv_tokens));
        Ok(bytes.fold(0, u64::saturating_add))
    }

    /// Memory of an estimate, with a KV pool of `kv_tokens`.
    pub(super) fn bytes_of(&self, estimate: &Estimate, kv_tokens: u32) -> u64 {
        let weights = estimate.weight_bytes.saturating_add(estimate.compute_bytes);
        let sequences = estimate
            .sequence_bytes
            .saturating_mul(self.engine.session.max_sequences.into());
        let kv = kv_bytes(estimate, kv_tokens);
        weights.saturating_add(sequences).saturating_add(kv)
    }

    /// Main memory that a KV pool of `kv_tokens` takes.
    pub(super) fn kv_bytes_on_cpu(
        &self,
        backend: &Backend,
        level: Option<&str>,
        kv_tokens: u32,
    ) -> Result<u64> {
        let session = &self.engine.session;
        let estimates = backend.estimate(&self.args_at(level), session)?;
        let on_cpu = estimates.iter().filter(|estimate| estimate.device == "cpu");
        let bytes = on_cpu.map(|estimate| kv_bytes(estimate, kv_tokens));
        Ok(bytes.fold(0, u64::saturating_add))
    }
}

fn kv_bytes(estimate: &Estimate, kv_tokens: u32) -> u64 {
    estimate.kv_bytes_per_token.saturating_mul(kv_tokens.into())
}
