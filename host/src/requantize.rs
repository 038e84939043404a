//! Changing the level of a model that is being served: no request fails, and none gets tokens of two models.
//!
//! The new model is made beside the old one. The moment it is ready new requests go to it; those that run finish on the old
//! one, whose engine ends with the last of them. Where the memory is too small for both, the model's configuration may allow
//! to do it in place: requests are asked to come again while the old model finishes, is dropped, and the new one is loaded.

use std::{sync::Arc, time::Instant};

use tenon_plugin_api::{Code, Error, levels};
use tokio::{runtime::Handle, sync::OwnedMutexGuard};
use tracing::{error, info};

use crate::{
    app::App,
    model::{LoadedModel, ModelState, ServedModel},
    plugin::ReportProgress,
    source::weight_warnings,
};

/// A change that was found possible and has the right to happen.
pub struct Requantize {
    app: Arc<App>,
    served: Arc<ServedModel>,
    current: Arc<LoadedModel>,
    level: String,
    way: Way,
    _change: OwnedMutexGuard<()>,
}

/// What a change did.
#[derive(Clone, Debug)]
pub struct Requantized {
    /// Level before; empty where the backend does not name it.
    pub from: String,
    /// Level after.
    pub to: String,
    /// Bytes of weights before and after.
    pub weight_bytes: (u64, u64),
    /// How long it took.
    pub seconds: f64,
    /// What to know about the weights, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a level was not changed. The model answers as before, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RequantizeError {
    /// Another change is under way.
    #[error("the level of the model '{0}' is being changed already: wait for that to end")]
    Busy(String),
    /// The model cannot be at that level.
    #[error("{0}")]
    Level(Error),
    /// The two models do not fit.
    #[error(
        "{what} take about {bytes} bytes, {} more than the model's memory_limit_bytes of {limit}: raise it by that{advice}",
        bytes - limit
    )]
    Memory {
        /// Which models.
        what: &'static str,
        /// What they take.
        bytes: u64,
        /// What they may take.
        limit: u64,
        /// What else helps.
        advice: &'static str,
    },
    /// The plugin did not do it.
    #[error("{0}")]
    Failed(Error),
}

enum Way {
    /// It is at that level.
    Nothing,
    Beside,
    InPlace,
}

impl Requantize {
    /// Finds out whether `current`, which is what `served` answers with, can go to the level `asked`. Blocks: the plugin may
    /// have to look at the model's file.
    pub fn prepare(
        app: &Arc<App>,
        served: &Arc<ServedModel>,
        current: Arc<LoadedModel>,
        asked: &str,
    ) -> Result<Self, RequantizeError> {
        let change = served.begin_change();
        let change = change.ok_or_else(|| RequantizeError::Busy(served.id.clone()))?;
        let info = current.engine.info();
        let level = levels::choose(asked, &info.requantize_levels);
        let level = level.map_err(RequantizeError::Level)?.to_owned();
        let way = match level == info.quantization {
            true => Way::Nothing,
            false => way(&current, &level)?,
        };
        Ok(Self {
            app: app.clone(),
            served: served.clone(),
            level,
            way,
            current,
            _change: change,
        })
    }

    /// Does it. Blocks until the model answers at the new level, or as before. On a runtime's thread for blocking work.
    pub fn run(self, progress: ReportProgress) -> Result<Requantized, RequantizeError> {
        let started = Instant::now();
        let (id, metrics) = (self.served.id.clone(), self.app.metrics.clone());
        let info = self.current.engine.info();
        let (from, before) = (info.quantization.clone(), info.weight_bytes);
        info!(model = id, from, to = self.level, "requantizing");
        let changed = self.change(progress).map_err(RequantizeError::Failed);
        let took = started.elapsed();
        metrics.requantized(&id, took, changed.is_ok());
        let new =
            changed.inspect_err(|error| error!(model = id, "requantizing failed: {error}"))?;
        let info = new.engine.info();
        if info.quantization != from {
            metrics.left_level(&id, &from);
        }
        metrics.loaded(&id, info);
        info!(model = id, level = info.quantization, "requantized");
        Ok(Requantized {
            from,
            to: info.quantization.clone(),
            weight_bytes: (before, info.weight_bytes),
            seconds: took.as_secs_f64(),
            warnings: weight_warnings(info),
        })
    }

    fn change(self, progress: ReportProgress) -> Result<Arc<LoadedModel>, Error> {
        match self.way {
            Way::Nothing => Ok(self.current),
            Way::Beside => {
                let source = &self.current.source;
                let new = source.beside(&self.current, &self.level, progress)?;
                Ok(ready(&self.served, new))
            }
            Way::InPlace => in_place(&self.served, self.current, &self.level, progress),
        }
    }
}

/// How the memory allows to do it.
fn way(current: &LoadedModel, level: &str) -> Result<Way, RequantizeError> {
    let Some(limit) = current.source.memory_limit_bytes else {
        return Ok(Way::Beside);
    };
    let old = memory_bytes(current, current.level.as_deref())?;
    let new = memory_bytes(current, Some(level))?;
    let too_much = |what, bytes, advice| RequantizeError::Memory {
        what,
        bytes,
        limit,
        advice,
    };
    if old + new <= limit {
        Ok(Way::Beside)
    } else if !current.source.in_place {
        let advice = ", or set requantize = \"in-place\"";
        Err(too_much("the model and its new level", old + new, advice))
    } else if new <= limit {
        Ok(Way::InPlace)
    } else {
        Err(too_much("the model's new level alone would", new, ""))
    }
}

/// What the model takes at a level; only its weights, where the backend gives no estimates.
fn memory_bytes(model: &LoadedModel, level: Option<&str>) -> Result<u64, RequantizeError> {
    let info = model.engine.info();
    let estimate = model.source.memory_bytes(level, model.engine.kv_tokens());
    estimate.or_else(|error| match level.and_then(levels::find) {
        _ if error.code != Code::UNSUPPORTED => Err(RequantizeError::Failed(error)),
        Some(level) => {
            let bits = f64::from(level.tensor.bits_per_weight());
            Ok((info.parameters as f64 * bits / 8.0) as u64)
        }
        None => Ok(info.weight_bytes),
    })
}

fn in_place(
    served: &ServedModel,
    current: Arc<LoadedModel>,
    level: &str,
    progress: ReportProgress,
) -> Result<Arc<LoadedModel>, Error> {
    let (source, old_level) = (current.source.clone(), current.level.clone());
    let (grammars, end) = (current.grammars.clone(), current.engine.end());
    served.set_state(ModelState::Loading);
    drop(current);
    grammars.leave_engine();
    Handle::current().block_on(end.wait());
    let error = match source.load(Some(level), Some(grammars.clone()), progress) {
        Ok(new) => return Ok(ready(served, new)),
        Err(error) => error,
    };
    match source.load(old_level.as_deref(), Some(grammars), source.progress()) {
        Ok(old) => {
            ready(served, old);
            Err(error)
        }
        Err(again) => {
            let why = format!("{error}; and it could not be loaded as it was: {again}");
            served.set_state(ModelState::Failed(why.clone()));
            Err(Error::new(error.code, why))
        }
    }
}

fn ready(served: &ServedModel, model: LoadedModel) -> Arc<LoadedModel> {
    let model = Arc::new(model);
    served.set_state(ModelState::Ready(model.clone()));
    model
}
