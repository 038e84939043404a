//! Messages between host and child. Each is a line of JSON.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    config::Sandbox,
    plugin::{DeclaredOptions, load::LoadError},
};

/// The host's request to a child: what to find out about a library.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialRequest {
    /// The path of the library. Empty in the request that is for all libraries.
    pub plugin: String,
    /// The sandbox of the library.
    pub sandbox: Sandbox,
    /// Threads that the plugin may use for computing.
    pub threads: u32,
    /// Directory for files that plugins can make again. A child gets one of its own.
    pub cache: String,
    /// Options of all plugins by their ids. Only the library knows its id.
    pub options: BTreeMap<String, Map<String, Value>>,
    /// Model files to ask `supports` about.
    pub files: Vec<String>,
}

/// A message of the child.
#[derive(Debug, Serialize, Deserialize)]
pub enum TrialMessage {
    /// The step that begins now.
    Begin(TrialStep),
    /// The bytes of an instruction that the CPU did not execute. Sent by a signal handler.
    Illegal(Vec<u8>),
    /// The backend was started.
    Started(Box<PluginFacts>),
    /// The answer about the next file of the request.
    Answer(SupportsAnswer),
    /// The library cannot be used.
    Refused(Refusal),
    /// The last message. `pid` differs from the process that the host started if the library forked and ended the parent.
    Done { pid: u32 },
}

/// The score and the reason from `supports`, or why there are none.
pub type SupportsAnswer = Result<(u32, String), String>;

/// A step of the trial. Its text follows "while" at the end of a sentence.
#[derive(Debug, Default, Serialize, Deserialize)]
pub enum TrialStep {
    #[default]
    Load,
    Init,
    Devices,
    Supports(String),
}

impl fmt::Display for TrialStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => write!(f, "being loaded"),
            Self::Init => write!(f, "starting (`init`)"),
            Self::Devices => write!(f, "listing its devices (`devices`)"),
            Self::Supports(file) => write!(f, "looking at {file} (`supports`)"),
        }
    }
}

/// Facts about a plugin: who it is, which devices it has, and what its users may choose.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PluginFacts {
    pub id: String,
    pub name: String,
    pub version: String,
    pub vendor: String,
    pub license: String,
    pub build: String,
    pub abi: String,
    pub devices: Vec<String>,
    /// The compute kernels of its devices, by the ids of the devices, as far as the plugin names them.
    pub kernels: BTreeMap<String, String>,
    /// Levels that it can quantize weights to.
    pub levels: Vec<String>,
    #[serde(flatten)]
    pub options: DeclaredOptions,
}

/// Why a file is not used. `reason` ends a sentence that begins with the file's name. `details` are for the author.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: String,
    pub details: String,
}

impl TrialRequest {
    /// The request about the library at a path, whose files go below `cache`, without the first `answered` files.
    pub fn of_library(&self, path: &Path, cache: &Path, answered: usize) -> Self {
        Self {
            plugin: path.to_string_lossy().into_owned(),
            cache: cache.to_string_lossy().into_owned(),
            files: self.files.iter().skip(answered).cloned().collect(),
            ..self.clone()
        }
    }
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            details: String::new(),
        }
    }

    /// Adds what the library printed, unless there are details already.
    pub fn with_output(mut self, output: &str) -> Self {
        if self.details.is_empty() {
            self.details = output.into();
        }
        self
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self {
            reason: error.to_string(),
            details: error.details().into(),
        }
    }
}
