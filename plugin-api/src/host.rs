//! The services of the host for a plugin.

use std::{path::PathBuf, sync::Arc};

use crate::{
    Code, Error, Extension, LogLevel, Result,
    abi::{HostBox, ProgressBox},
};

/// Services of the host. Cloning is cheap; a plugin may keep a clone for as long as it likes.
#[derive(Clone)]
pub struct Host(Arc<HostBox>);

impl Host {
    pub(crate) fn new(host: HostBox) -> Self {
        Self(Arc::new(host))
    }

    /// `[any thread]` Writes a line to the host's log, which adds the plugin's id. `target` names the part of the plugin
    /// that logs, for filters. Do not log in `forward` or `sample`.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        self.0.log(level, target.into(), message.into());
    }

    /// `[any thread]` How many threads the plugin may use for computing, at least 1. A plugin never asks the machine for
    /// this number.
    pub fn threads(&self) -> u32 {
        self.0.threads().max(1)
    }

    /// `[any thread]` A directory of the plugin's own, for files that stay between runs. It may not exist yet, and anybody
    /// may empty it.
    pub fn cache_dir(&self) -> PathBuf {
        self.0.cache_dir().into_string().into()
    }

    /// `[any thread]` An optional service of later hosts, by its id. None if this host does not have it.
    pub fn extension(&self, id: &str) -> Option<Extension> {
        self.0.extension(id.into()).into_option()
    }
}

/// The way for a long call to report how far it is, and to learn that it should stop. Borrowed for the call.
pub struct Progress(ProgressBox);

impl Progress {
    pub(crate) fn new(progress: ProgressBox) -> Self {
        Self(progress)
    }

    /// `[any thread]` `fraction` is in 0..=1, or None if unknown; `message` says what is being done.
    ///
    /// # Errors
    /// [`Code::CANCELLED`] if the host wants the call to stop: clean up and return this error.
    pub fn report(&self, fraction: Option<f32>, message: &str) -> Result<()> {
        if self.0.report(fraction.unwrap_or(-1.0), message.into()) {
            Ok(())
        } else {
            Err(Error::new(Code::CANCELLED, "the host cancelled the call"))
        }
    }
}
