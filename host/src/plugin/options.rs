//! Settings of the registry.

use std::{
    collections::BTreeMap, io, num::NonZero, path::PathBuf, thread::available_parallelism,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{TrustedKeys, host_services::default_cache, probe::TrialRequest};
use crate::{
    config::{DEFAULT_TRY_TIMEOUT_SECS, Sandbox},
    system::installation,
};

/// The program that runs now. The path that it was started from may have a newer version by now.
pub const EXECUTABLE: &str = "/proc/self/exe";

/// Settings of the registry.
pub struct RegistryOptions {
    /// Plugin directories, the preferred one first.
    pub directories: Vec<PathBuf>,
    /// This program, which is started again to try out each plugin.
    pub executable: PathBuf,
    /// Threads that a plugin may use for computing.
    pub threads: u32,
    /// Directory for files that plugins can make again.
    pub cache: PathBuf,
    /// Options of plugins by their ids.
    pub options: BTreeMap<String, Map<String, Value>>,
    /// Keys that plugins must be signed with.
    pub trusted_keys: TrustedKeys,
    /// Models for which a backend may be chosen by how well it fits.
    pub models: Vec<PathBuf>,
    /// The sandbox of plugins while they are tried out.
    pub sandbox: Sandbox,
    /// Longest time for each step of a plugin: being loaded, starting, and looking at a model.
    pub try_timeout: Duration,
}

impl RegistryOptions {
    /// Options for these directories, or for the one that came with this program if there are none: all cores, the user's
    /// cache, no plugin options, no keys, no models, the strict sandbox.
    pub fn new(mut directories: Vec<PathBuf>) -> io::Result<Self> {
        if directories.is_empty() {
            directories.push(installation::plugin_directory()?);
        }
        let threads = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            directories,
            executable: EXECUTABLE.into(),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            cache: default_cache(),
            options: BTreeMap::new(),
            trusted_keys: TrustedKeys::default(),
            models: Vec::new(),
            sandbox: Sandbox::default(),
            try_timeout: Duration::from_secs(DEFAULT_TRY_TIMEOUT_SECS.get().into()),
        })
    }

    /// The request that the trial of each plugin gets.
    pub(super) fn request(&self) -> TrialRequest {
        let models = self.models.iter();
        TrialRequest {
            plugin: String::new(),
            sandbox: self.sandbox,
            threads: self.threads,
            cache: self.cache.to_string_lossy().into_owned(),
            options: self.options.clone(),
            files: models
                .filter_map(|path| path.to_str().map(str::to_owned))
                .collect(),
        }
    }
}
