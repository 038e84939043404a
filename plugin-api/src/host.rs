//! What the host does for a plugin.

use std::{path::PathBuf, sync::Arc};

use abi_stable::StableAbi;

use crate::{
    Code, Error, Result,
    abi::{Extension, HostBox, ProgressBox},
};

/// How important a line of log is. An open enumeration; unknown levels are treated as [`LogLevel::DEBUG`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Something failed.
    pub const ERROR: Self = Self(1);
    /// Something is not as it should be, but goes on.
    pub const WARN: Self = Self(2);
    /// Worth knowing.
    pub const INFO: Self = Self(3);
    /// For authors.
    pub const DEBUG: Self = Self(4);
    /// Everything.
    pub const TRACE: Self = Self(5);
}

/// Services of the host. A cheap clone; keep one as long as you like.
#[derive(Clone)]
pub struct Host(Arc<HostBox>);

impl Host {
    pub(crate) fn new(host: HostBox) -> Self {
        Self(Arc::new(host))
    }

    /// `[any thread]` Writes a line to the host's log, which adds the plugin's id. `target` is the part of the plugin that speaks,
    /// for filters. Not from `forward` or `sample`: those log nothing.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        self.0.log(level, target.into(), message.into());
    }

    /// `[any thread]` How many threads the plugin may use for computing, at least 1. A plugin never asks the machine.
    pub fn threads(&self) -> u32 {
        self.0.threads().max(1)
    }

    /// `[any thread]` A directory of the plugin's own to keep files in between runs. It may not exist yet, and anybody may empty
    /// it.
    pub fn cache_dir(&self) -> PathBuf {
        self.0.cache_dir().into_string().into()
    }

    /// `[any thread]` A service that a later host may have; None where it has not.
    pub fn extension(&self, id: &str) -> Option<Extension> {
        self.0.extension(id.into()).into_option()
    }
}

/// Where a long call says how far it is, and learns that it should stop. Borrowed for the call.
pub struct Progress(ProgressBox);

impl Progress {
    pub(crate) fn new(progress: ProgressBox) -> Self {
        Self(progress)
    }

    /// `[any thread]` `fraction` in 0..=1, or None where it cannot be told; `message` says what is being done.
    ///
    /// # Errors
    /// [`Code::CANCELLED`] if the host wants the call to stop: clean up and return it.
    pub fn report(&self, fraction: Option<f32>, message: &str) -> Result<()> {
        if self.0.report(fraction.unwrap_or(-1.0), message.into()) {
            Ok(())
        } else {
            Err(Error::new(Code::CANCELLED, "the host cancelled the call"))
        }
    }
}
