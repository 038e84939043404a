//! Changes the level of a model while it is served. No request fails, and none gets tokens of two models.
//!
//! The new model is made beside the old one. Once it is ready, new requests go to it. Running requests finish on the old
//! model, whose engine ends with the last of them. If memory is too small for both, the model's configuration may allow the
//! change in place: requests are asked to try again later, while the old model finishes and is dropped and the new one is
//! loaded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{Code, Error, levels};
use tokio::{runtime::Handle, time::timeout};
use tracing::{error, info};

use super::{
    LoadedModel, ModelSpec, ModelState, RightToChange, ServedModel, restart::serve, weight_warnings,
};
use crate::{metrics::Metrics, plugin::ReportProgress};

/// A change of level that was found possible. Holds the permission to change the model.
pub struct LevelChange {
    metrics: Metrics,
    served: Arc<ServedModel>,
    current: Arc<LoadedModel>,
    level: String,
    way: Way,
    right: RightToChange,
}

/// The result of a change.
#[derive(Clone, Debug)]
pub struct Requantized {
    /// Level before. Empty if the backend does not name it.
    pub from: String,
    /// Level after.
    pub to: String,
    /// Bytes of weights before and after.
    pub weight_bytes: (u64, u64),
    /// How long it took.
    pub seconds: f64,
    /// Warnings for users about the weights, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a level was not changed. The model answers as before, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RequantizeError {
    /// Another change is under way.
    #[error("the model '{0}' is being changed already: wait for that to end")]
    Busy(String),
    /// The model does not have that level.
    #[error("{0}")]
    Level(Error),
    /// The models do not fit into the memory limit.
    #[error(
        "{what} take about {bytes} bytes, {} more than the model's memory_limit_bytes of {limit}: raise it by that{advice}",
        bytes - limit
    )]
    Memory {
        /// Which models do not fit.
        what: &'static str,
        /// Bytes that the models take.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// Other advice, for the end of the sentence. May be empty.
        advice: &'static str,
    },
    /// The plugin failed.
    #[error("{0}")]
    Failed(Error),
}

/// The time to wait for the end of a model without requests, longer than it takes.
const END_TIMEOUT: Duration = Duration::from_secs(1);

enum Way {
    /// The model is already at that level.
    Nothing,
    /// Makes the new model beside the old one, which takes this many bytes until its last request ends. 0: no memory limit.
    Beside(u64),
    InPlace,
}

impl LevelChange {
    /// Checks whether `served`, which answers with `current`, can change to the level `asked`. `right` is the permission to
    /// change it. Blocks: the plugin may have to look at the model's file.
    pub fn prepare(
        metrics: Metrics,
        served: Arc<ServedModel>,
        mut right: RightToChange,
        current: Arc<LoadedModel>,
        asked: &str,
    ) -> Result<Self, RequantizeError> {
        let facts = current.facts();
        let level = level(asked, &current)?;
        let way = match level == facts.info.quantization {
            true => Way::Nothing,
            false => way(&current, &mut right, &level)?,
        };
        Ok(Self {
            metrics,
            served,
            level,
            way,
            current,
            right,
        })
    }

    /// Makes the change. Blocks until the model answers at the new level, or again as before. Call it on a runtime's blocking
    /// thread.
    pub fn run(self, progress: ReportProgress) -> Result<Requantized, RequantizeError> {
        let Self {
            metrics,
            served,
            current,
            level,
            way,
            mut right,
        } = self;
        let (id, started) = (&served.id, Instant::now());
        let before = current.facts().info.clone();
        let has_levels = !before.requantize_levels.is_empty();
        info!(
            model = id,
            from = before.quantization,
            to = level,
            "requantizing"
        );
        let changed = match way {
            Way::Nothing => Ok(current),
            Way::Beside(bytes) => beside(&served, &current, &level, progress)
                .inspect(|_| right.push(current.runner.end(), bytes)),
            Way::InPlace => in_place(&served, current, &level, &mut right, progress),
        };
        let took = started.elapsed();
        metrics.requantized(id, took, changed.is_ok());
        let changed = changed.inspect_err(|why| error!(model = id, "requantizing failed: {why}"));
        let changed = changed.map_err(|error| refused(error, has_levels))?;
        let info = changed.facts().info.clone();
        if info.quantization != before.quantization {
            metrics.left_level(id, &before.quantization);
        }
        metrics.loaded(id, &info);
        info!(model = id, level = info.quantization, "requantized");
        Ok(Requantized {
            weight_bytes: (before.weight_bytes, info.weight_bytes),
            seconds: took.as_secs_f64(),
            warnings: weight_warnings(&info),
            from: before.quantization,
            to: info.quantization,
        })
    }
}

/// Why the change failed. Whether a plugin without `requantize` has a level is known only after it was asked to load the model at
/// that level.
fn refused(error: Error, has_levels: bool) -> RequantizeError {
    match error.code {
        Code::INVALID | Code::UNSUPPORTED if !has_levels => RequantizeError::Level(error),
        _ => RequantizeError::Failed(error),
    }
}

/// The level that is asked for. Whether a plugin that cannot change levels has this one is known only when it loads the model at
/// it.
fn level(asked: &str, current: &LoadedModel) -> Result<String, RequantizeError> {
    let info = &current.facts().info;
    let is_isolated = current.spec.max_restarts.is_some();
    let level = match levels::find(asked) {
        Some(level) if info.requantize_levels.is_empty() && is_isolated => Ok(level.name),
        _ => levels::choose(asked, &info.requantize_levels),
    };
    Ok(level.map_err(RequantizeError::Level)?.to_owned())
}

/// Chooses how to make the change within the memory limit. Former models may still take some of that memory.
fn way(
    current: &LoadedModel,
    right: &mut RightToChange,
    level: &str,
) -> Result<Way, RequantizeError> {
    let Some(limit) = current.spec.memory_limit_bytes else {
        return Ok(Way::Beside(0));
    };
    let old = memory_bytes(current, current.level.as_deref())?;
    let new = memory_bytes(current, Some(level))?;
    if old + new <= limit && right.bytes() + old + new > limit {
        // Former models without requests are about to end. Only running requests keep one longer than this.
        let _ = Handle::current().block_on(timeout(END_TIMEOUT, right.ended()));
    }
    let all = right.bytes() + old + new;
    let (what, bytes, advice) = match current.spec.in_place {
        _ if all <= limit => return Ok(Way::Beside(old)),
        true if new <= limit => return Ok(Way::InPlace),
        true => ("the model's new level alone would", new, ""),
        false if old + new <= limit => (
            "the model, its new level and those before, on which requests still run,",
            all,
            ", or wait for those requests",
        ),
        false => (
            "the model and its new level",
            old + new,
            ", or set requantize = \"in-place\"",
        ),
    };
    Err(RequantizeError::Memory {
        what,
        bytes,
        limit,
        advice,
    })
}

/// Memory that the model takes at a level: only that of its weights if the backend gives no estimates.
fn memory_bytes(model: &LoadedModel, level: Option<&str>) -> Result<u64, RequantizeError> {
    let facts = model.facts();
    model
        .runner
        .memory_bytes(level)
        .or_else(|error| match level.and_then(levels::find) {
            _ if error.code != Code::UNSUPPORTED => Err(RequantizeError::Failed(error)),
            Some(level) => {
                let bits = f64::from(level.tensor.bits_per_weight());
                Ok((facts.info.parameters as f64 * bits / 8.0) as u64)
            }
            None => Ok(facts.info.weight_bytes),
        })
}

fn beside(
    served: &Arc<ServedModel>,
    current: &LoadedModel,
    level: &str,
    progress: ReportProgress,
) -> Result<Arc<LoadedModel>, Error> {
    let new = match current.facts().info.requantize_levels.is_empty() {
        // A backend that cannot change the level of a loaded model may still load the model at another level.
        true => loaded_at(&served.spec_now(&current.spec), level, progress),
        false => current.spec.beside(current, level, progress),
    };
    Ok(serve(served, new?))
}

/// Loads the model at a level with a plugin that may not have it.
fn loaded_at(
    spec: &Arc<ModelSpec>,
    level: &str,
    progress: ReportProgress,
) -> Result<LoadedModel, Error> {
    let new = spec.load(Some(level), progress)?;
    let loaded = new.facts().info.quantization.clone();
    match levels::choose(level, &[loaded]) {
        Ok(_) => Ok(new),
        Err(_) => {
            let why =
                format!("this model cannot be quantized to {level}: its backend has no levels");
            Err(Error::new(Code::UNSUPPORTED, why))
        }
    }
}

fn in_place(
    served: &Arc<ServedModel>,
    current: Arc<LoadedModel>,
    level: &str,
    right: &mut RightToChange,
    progress: ReportProgress,
) -> Result<Arc<LoadedModel>, Error> {
    let (spec, old_level) = (served.spec_now(&current.spec), current.level.clone());
    right.push(current.runner.end(), 0);
    served.set_state(ModelState::Loading);
    drop(current);
    Handle::current().block_on(right.ended());
    let error = match spec.load(Some(level), progress) {
        Ok(new) => return Ok(serve(served, new)),
        Err(error) => error,
    };
    match spec.load(old_level.as_deref(), spec.progress()) {
        Ok(old) => {
            serve(served, old);
            Err(error)
        }
        Err(again) => {
            let why = format!("{error}; and it could not be loaded as it was: {again}");
            served.set_state(ModelState::Failed(why.clone()));
            Err(Error::new(error.code, why))
        }
    }
}
