//! Changing the level of a model that is being served: no request fails, and none gets tokens of two models.
//!
//! The new model is made beside the old one. The moment it is ready new requests go to it; those that run finish on the old
//! one, whose engine ends with the last of them. Where the memory is too small for both, the model's configuration may allow
//! to do it in place: requests are asked to come again while the old model finishes, is dropped, and the new one is loaded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{Code, Error, levels};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};
use tracing::{error, info};

use crate::{
    app::App,
    engine::End,
    memory,
    model::{LoadedModel, ModelState, RightToChange, ServedModel},
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
    right: RightToChange,
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

/// More than a model takes to end when its last request has.
const END_TIMEOUT: Duration = Duration::from_secs(1);

enum Way {
    /// It is at that level.
    Nothing,
    /// The model takes so much memory until its last request has ended; 0 where that does not matter.
    Beside(u64),
    InPlace,
}

impl Requantize {
    /// Finds out whether `served`, which answers with `current`, can go to the level `asked`. `right` is that to change it.
    /// Blocks: the plugin may have to look at the model's file.
    pub fn prepare(
        app: Arc<App>,
        served: Arc<ServedModel>,
        mut right: RightToChange,
        current: Arc<LoadedModel>,
        asked: &str,
    ) -> Result<Self, RequantizeError> {
        let info = current.engine.info();
        let level = levels::choose(asked, &info.requantize_levels);
        let level = level.map_err(RequantizeError::Level)?.to_owned();
        let way = match level == info.quantization {
            true => Way::Nothing,
            false => way(&current, &mut right, &level)?,
        };
        Ok(Self {
            app,
            served,
            level,
            way,
            current,
            right,
        })
    }

    /// Does it. Blocks until the model answers at the new level, or as before. On a runtime's thread for blocking work.
    pub fn run(self, progress: ReportProgress) -> Result<Requantized, RequantizeError> {
        let Self {
            app,
            served,
            current,
            level,
            way,
            mut right,
        } = self;
        let (id, started) = (&served.id, Instant::now());
        let before = current.engine.info().clone();
        info!(
            model = id,
            from = before.quantization,
            to = level,
            "requantizing"
        );
        let changed = match way {
            Way::Nothing => Ok(current),
            Way::Beside(bytes) => beside(&served, &current, &level, progress)
                .inspect(|_| right.push(current.engine.end(), bytes)),
            Way::InPlace => in_place(&served, current, &level, &mut right, progress),
        };
        let took = started.elapsed();
        app.metrics.requantized(id, took, changed.is_ok());
        let changed = changed.inspect_err(|why| error!(model = id, "requantizing failed: {why}"));
        let info = changed
            .map_err(RequantizeError::Failed)?
            .engine
            .info()
            .clone();
        if info.quantization != before.quantization {
            app.metrics.left_level(id, &before.quantization);
        }
        app.metrics.loaded(id, &info);
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

/// How the memory allows to do it, of which the models before may still take some.
fn way(
    current: &LoadedModel,
    right: &mut RightToChange,
    level: &str,
) -> Result<Way, RequantizeError> {
    let Some(limit) = current.source.memory_limit_bytes else {
        return Ok(Way::Beside(0));
    };
    let old = memory_bytes(current, current.level.as_deref())?;
    let new = memory_bytes(current, Some(level))?;
    if old + new <= limit && right.bytes() + old + new > limit {
        // They are all there still only if requests run on them.
        let _ = Handle::current().block_on(timeout(END_TIMEOUT, right.ended()));
    }
    let all = right.bytes() + old + new;
    let (what, bytes, advice) = match current.source.in_place {
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

fn beside(
    served: &ServedModel,
    current: &LoadedModel,
    level: &str,
    progress: ReportProgress,
) -> Result<Arc<LoadedModel>, Error> {
    let new = current.source.beside(current, level, progress)?;
    give_memory_back_after(current.engine.end());
    Ok(ready(served, new))
}

fn in_place(
    served: &ServedModel,
    current: Arc<LoadedModel>,
    level: &str,
    right: &mut RightToChange,
    progress: ReportProgress,
) -> Result<Arc<LoadedModel>, Error> {
    let (source, old_level) = (current.source.clone(), current.level.clone());
    let (grammars, end) = (current.grammars.clone(), current.engine.end());
    served.set_state(ModelState::Loading);
    drop(current);
    grammars.leave_engine();
    right.push(end, 0);
    Handle::current().block_on(right.ended());
    memory::give_back();
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

/// When the old engine has ended, which takes as long as its last request.
fn give_memory_back_after(end: End) {
    Handle::current().spawn(async move {
        end.wait().await;
        // The task cannot fail.
        let _ = spawn_blocking(memory::give_back).await;
    });
}

fn ready(served: &ServedModel, model: LoadedModel) -> Arc<LoadedModel> {
    let model = Arc::new(model);
    served.set_state(ModelState::Ready(model.clone()));
    model
}
