//! Checks before a model is loaded whether it fits into memory.

use tenon_plugin_api::{Code, Error, LoadArgs, Result};

use super::Recipe;
use crate::{
    plugin::Backend,
    system::{
        free_memory::{self, Limit},
        memory,
    },
};

impl Recipe {
    /// Checks before loading that the model fits into its memory limit, or into free memory if it has no limit, and that its KV
    /// pool fits into the machine. A backend that gives no estimates is not checked.
    ///
    /// # Errors
    /// A sentence that says what does not fit, and what to change.
    pub fn check_memory(&self, backend: &Backend, level: Option<&str>) -> Result<()> {
        self.check_kv_pool(backend, level)?;
        match self.memory_limit_bytes {
            Some(limit) => self.check_limit(backend, level, limit),
            None => self.check_free(backend, level),
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

    fn check_limit(&self, backend: &Backend, level: Option<&str>, limit: u64) -> Result<()> {
        let kv_tokens = self.engine.session.kv_tokens;
        match if_estimated(self.memory_bytes(backend, level, kv_tokens))? {
            Some(bytes) if bytes > limit => Err(Error::invalid(format!(
                "it takes about {bytes} bytes, more than its memory_limit_bytes of {limit}: raise that, or choose a smaller level (quantize)"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a model that takes more main memory than there is at the moment: loading it would have the machine swap, or the
    /// kernel end a process.
    fn check_free(&self, backend: &Backend, level: Option<&str>) -> Result<()> {
        let needed = |level: Option<&str>| self.bytes_on_cpu(backend, &self.args_at(level));
        let Some(limit) = free_memory::least() else {
            return Ok(());
        };
        match needed(level) {
            Ok(bytes) if bytes > limit.free_bytes => {
                let levels = backend.descriptor().levels();
                let estimated = levels.filter_map(|at| Some((at, needed(Some(at)).ok()?)));
                let message = too_large(bytes, &limit, &estimated.collect::<Vec<_>>());
                Err(Error::new(Code::NO_MEMORY, message))
            }
            // Without an estimate, loading says what is wrong.
            _ => Ok(()),
        }
    }

    /// Main memory that the model takes.
    fn bytes_on_cpu(&self, backend: &Backend, args: &LoadArgs) -> Result<u64> {
        let session = &self.engine.session;
        let estimates = backend.estimate(args, session)?;
        let on_cpu = estimates.iter().filter(|estimate| estimate.device == "cpu");
        let bytes = on_cpu.map(|estimate| self.bytes_of(estimate, session.kv_tokens));
        Ok(bytes.fold(0, u64::saturating_add))
    }
}

/// The message for a model that takes more memory than is free. `levels` has the model's possible levels, each with the bytes
/// that the model takes at it, the most faithful level first.
fn too_large(bytes: u64, limit: &Limit, levels: &[(&str, u64)]) -> String {
    let shown = memory::shown;
    let fits = |(_, bytes): &&(&str, u64)| *bytes <= limit.free_bytes;
    let smallest = levels.iter().min_by_key(|(_, bytes)| bytes);
    let advice = match (levels.iter().find(fits), smallest) {
        (Some((level, bytes)), _) => format!("quantize = \"{level}\" takes {}", shown(*bytes)),
        (None, Some((level, least))) if *least < bytes => format!(
            "even quantize = \"{level}\" takes {}: free memory, or choose a smaller model",
            shown(*least)
        ),
        _ => "free memory, or choose a smaller model".to_owned(),
    };
    format!(
        "it needs about {}, {} are free ({}): {advice}",
        shown(bytes),
        shown(limit.free_bytes),
        limit.of
    )
}

/// A backend's estimate. None if the backend gives none.
fn if_estimated(bytes: Result<u64>) -> Result<Option<u64>> {
    match bytes {
        Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
        bytes => bytes.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_level_that_fits_is_named() {
        let limit = Limit {
            of: "the machine".to_owned(),
            bytes: 8_000_000_000,
            free_bytes: 3_900_000_000,
        };
        let at = |levels: &[(&str, u64)]| too_large(6_100_000_000, &limit, levels);
        let begin = "it needs about 6.1 GB, 3.9 GB are free (the machine): ";
        let levels = [
            ("Q8_0", 4_000_000_000),
            ("Q4_K", 2_200_000_000),
            ("Q2_K", 1),
        ];
        assert_eq!(
            at(&levels),
            format!("{begin}quantize = \"Q4_K\" takes 2.2 GB")
        );
        let end = "free memory, or choose a smaller model";
        let even = format!("{begin}even quantize = \"Q8_0\" takes 4.0 GB: {end}");
        assert_eq!(at(&levels[..1]), even);
        assert_eq!(at(&[]), format!("{begin}{end}"));
    }
}
