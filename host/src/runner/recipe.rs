//! What a model is made from.

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Code, Error, Estimate, LoadArgs, Result, SamplingDefaults};

use crate::{config, engine::EngineOptions, plugin::Backend, system::memory};

/// What a model is made from.
#[derive(Clone, Serialize, Deserialize)]
pub struct Recipe {
    /// The name that requests use.
    pub model: String,
    /// What to load. The level is set for each load.
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

    /// Checks, as far as it is possible before loading, that the model fits into its memory limit and its KV pool into the
    /// machine. A backend that gives no estimates is not checked.
    ///
    /// # Errors
    /// What does not fit, and what to change.
    pub fn check_memory(&self, backend: &Backend, level: Option<&str>) -> Result<()> {
        self.check_kv_pool(backend, level)?;
        let Some(limit) = self.memory_limit_bytes else {
            return Ok(());
        };
        let kv_tokens = self.engine.session.kv_tokens;
        match if_estimated(self.memory_bytes(backend, level, kv_tokens))? {
            Some(bytes) if bytes > limit => Err(Error::invalid(format!(
                "it takes about {bytes} bytes, more than its memory_limit_bytes of {limit}: raise that, or choose a smaller level (quantize)"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a KV pool larger than the machine's memory. The system would grant it, but end the process once too much is
    /// used.
    fn check_kv_pool(&self, backend: &Backend, level: Option<&str>) -> Result<()> {
        let kv_tokens = self.engine.session.kv_tokens;
        let Some(most) = memory::of_machine().filter(|_| kv_tokens > 0) else {
            return Ok(());
        };
        match if_estimated(self.kv_bytes_on_cpu(backend, level, kv_tokens))? {
            Some(bytes) if bytes > most => Err(Error::invalid(format!(
                "a KV pool of {kv_tokens} tokens takes about {bytes} bytes, but the machine has {most}: choose a smaller kv_tokens"
            ))),
            _ => Ok(()),
        }
    }

    /// Main memory that a KV pool of `kv_tokens` takes.
    fn kv_bytes_on_cpu(
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

/// A backend's estimate. None if the backend gives none.
fn if_estimated(bytes: Result<u64>) -> Result<Option<u64>> {
    match bytes {
        Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
        bytes => bytes.map(Some),
    }
}
