//! `[plugins]`: where backends come from, and what they are told at their start.

use std::{collections::BTreeMap, env, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusals::Refusals;

/// Where plugins are, and their options.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugins {
    /// The preferred directory first.
    pub directories: Vec<PathBuf>,
    /// None: the user's cache directory.
    pub cache_directory: Option<PathBuf>,
    /// By plugin id.
    pub options: BTreeMap<String, Map<String, Value>>,
}

/// Where backends come from, and what they are told at their start.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPlugins {
    /// Directories with plugins (`*.so`), the preferred one first. Default: `plugins` beside the program.
    directories: Option<Vec<PathBuf>>,
    /// Directory in which plugins keep files that can be made again, for example quantized models. Default: `tenon` in the
    /// user's cache directory (`$XDG_CACHE_HOME`, or `~/.cache`).
    cache_directory: Option<PathBuf>,
    /// A table for each plugin id, for example `[plugins.options."org.tenon.llama-cpp"]`, passed on to that plugin. Its
    /// documentation says what it understands.
    options: BTreeMap<String, Map<String, Value>>,
}

impl RawPlugins {
    pub fn resolve(self, refusals: &mut Refusals) -> Plugins {
        let directories = match self.directories {
            Some(written) => written
                .iter()
                .map(|path| refusals.whole_path(&["plugins", "directories"], path))
                .collect(),
            None => beside_program(refusals).into_iter().collect(),
        };
        let cache = self.cache_directory;
        Plugins {
            directories,
            cache_directory: cache
                .map(|path| refusals.whole_path(&["plugins", "cache_directory"], &path)),
            options: self.options,
        }
    }
}

fn beside_program(refusals: &mut Refusals) -> Option<PathBuf> {
    env::current_exe()
        .map(|program| program.with_file_name("plugins"))
        .inspect_err(|error| {
            let why = format!("must be set, because the program cannot find itself: {error}");
            refusals.refuse(&["plugins", "directories"], &why);
        })
        .ok()
}
