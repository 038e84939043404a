//! `[plugins]`: the directories of plugins, and their options.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use minisign_verify::PublicKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusals::Refusals;
use crate::system::installation;

/// Default of `try_timeout_secs`: long enough for a large library on a slow disk.
pub const DEFAULT_TRY_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// The directories of plugins, and their options.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugins {
    /// The preferred directory first.
    pub directories: Vec<PathBuf>,
    /// None: the user's cache directory.
    pub cache_directory: Option<PathBuf>,
    pub try_timeout: Duration,
    /// Whether changes of the directories are noticed while the server runs.
    pub watch: bool,
    /// Whether running models are loaded again when their plugin is replaced.
    pub reload_on_replace: bool,
    /// Keys that plugins must be signed with. Empty: every plugin may be used.
    pub trusted_keys: Vec<PublicKey>,
    /// By plugin id.
    pub options: BTreeMap<String, Map<String, Value>>,
}

/// The directories of plugins, and their options.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPlugins {
    /// Directories with plugins (`*.so`), the preferred one first. Folders in them called `x86-64-v2`, `x86-64-v3` and `x86-64-v4`
    /// hold builds for CPUs of these levels. Default: `plugins` beside the program, else `../lib/tenon/plugins`.
    directories: Option<Vec<PathBuf>>,
    /// Directory in which plugins keep files that can be made again, for example quantized models. Default: `tenon` in the
    /// user's cache directory (`$XDG_CACHE_HOME`, or `~/.cache`).
    cache_directory: Option<PathBuf>,
    /// Seconds that a plugin may take for each of these when it is tried out: to be loaded, to start, and to look at a
    /// model. A plugin that takes longer is not used.
    try_timeout_secs: NonZeroU32,
    /// Whether plugins that appear in the directories, are replaced or are removed are noticed while the server runs. Models
    /// that no plugin could load are loaded as soon as one can.
    watch: bool,
    /// Whether running models are loaded again with the new file when their plugin is replaced: a second worker is made, which
    /// takes new requests once it is ready; the first one ends with its last request. Without it, the next load uses the new
    /// file. Needs `watch`, and models in workers.
    reload_on_replace: bool,
    /// Public keys of minisign: the second line of a `.pub` file. If there are any, a plugin is used only if one of them signed it
    /// and its signature is beside it (`libmine.so.minisig`). It is then loaded from memory, and finds no libraries beside it.
    trusted_keys: Vec<String>,
    /// A table for each plugin id, for example `[plugins.options."org.tenon.llama-cpp"]`, passed on to that plugin.
    /// `tenon plugins show ID` lists them.
    options: BTreeMap<String, Map<String, Value>>,
}

impl Default for RawPlugins {
    fn default() -> Self {
        Self {
            directories: None,
            cache_directory: None,
            try_timeout_secs: DEFAULT_TRY_TIMEOUT_SECS,
            watch: true,
            reload_on_replace: false,
            trusted_keys: Vec::new(),
            options: BTreeMap::new(),
        }
    }
}

impl RawPlugins {
    pub fn resolve(self, refusals: &mut Refusals) -> Plugins {
        let directories = match self.directories {
            Some(written) => written
                .iter()
                .map(|path| refusals.whole_path(&["plugins", "directories"], path))
                .collect(),
            None => default_directory(refusals).into_iter().collect(),
        };
        let cache = self.cache_directory;
        Plugins {
            directories,
            cache_directory: cache
                .map(|path| refusals.whole_path(&["plugins", "cache_directory"], &path)),
            try_timeout: Duration::from_secs(self.try_timeout_secs.get().into()),
            watch: self.watch,
            reload_on_replace: self.reload_on_replace,
            trusted_keys: keys(&self.trusted_keys, refusals),
            options: self.options,
        }
    }
}

fn keys(written: &[String], refusals: &mut Refusals) -> Vec<PublicKey> {
    let keys = written.iter().filter_map(|key| {
        let refuse = |_: &_| {
            let why = format!("has \"{key}\", but must hold public keys of minisign: the second line of a .pub file");
            refusals.refuse(&["plugins", "trusted_keys"], &why);
        };
        PublicKey::from_base64(key).inspect_err(refuse).ok()
    });
    keys.collect()
}

fn default_directory(refusals: &mut Refusals) -> Option<PathBuf> {
    installation::plugin_directory()
        .inspect_err(|error| {
            let why = format!("must be set, because the program cannot find itself: {error}");
            refusals.refuse(&["plugins", "directories"], &why);
        })
        .ok()
}
