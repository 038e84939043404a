//! The options and callbacks that an engine is started with.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Error, SessionArgs};

use super::Calibration;
use crate::plugin::Model;

/// Loads the model: at the start, and again if the plugin panics or loses its device.
pub type Loader = Box<dyn FnMut() -> Result<Model, Error> + Send>;

/// Called on the model thread before and after each forward, when there may be events in the channels of sequences. It is for
/// readers that are not tasks, and so cannot be woken. It must not block.
pub type OnEvents = Arc<dyn Fn() + Send + Sync>;

/// Options of an engine.
#[derive(Clone, Serialize, Deserialize)]
pub struct EngineOptions {
    /// The thread's name.
    pub name: String,
    /// The arguments of the plugin's session.
    pub session: SessionArgs,
    /// Most requests that may wait; one more is refused.
    pub max_queue: usize,
    /// How many times the model is loaded again after the plugin broke.
    pub max_reloads: u32,
    /// Limits of the steps.
    pub limits: EngineLimits,
    /// Measures which number of threads and way of waiting is the fastest. None: the session's threads stay as they are.
    /// Measurements are not sent to a worker process, which makes its own.
    pub calibration: Option<Arc<Calibration>>,
}

/// Limits of one step, and of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineLimits {
    /// Most sequences that run at the same time. The session's other sequences hold cached prefixes.
    pub max_running: u32,
    /// Longest draft. 0: no drafts.
    pub max_draft_tokens: u32,
    /// Longest step while sequences decode: limits how many prompt tokens go into it. None: prompts may fill the batch.
    pub max_step: Option<Duration>,
    /// Lowest priority that counts between clients. A lower priority counts as this one.
    pub min_priority: i32,
    /// How long a reader may leave its channel full before its sequence fails.
    pub write_timeout: Duration,
}
