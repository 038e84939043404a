//! All backends of the process, and why other files are none.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io,
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
    thread::available_parallelism,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Backend,
    discover::{Discovered, discover},
    elf,
    host_services::default_cache,
    load::Plugin,
    probe::{Refusal, probe},
};

/// What the registry needs to know.
pub struct RegistryOptions {
    /// Where plugins are, the preferred directory first.
    pub directories: Vec<PathBuf>,
    /// This program, which is started again to try each plugin out.
    pub executable: PathBuf,
    /// Threads that a plugin may use for computing.
    pub threads: u32,
    /// Where plugins keep files that can be made again.
    pub cache: PathBuf,
    /// Options of plugins by their ids.
    pub options: BTreeMap<String, Map<String, Value>>,
}

impl RegistryOptions {
    /// These directories, or if there are none `plugins/` beside this program; all cores, the user's cache, no options.
    pub fn new(mut directories: Vec<PathBuf>) -> io::Result<Self> {
        if directories.is_empty() {
            directories.push(env::current_exe()?.with_file_name("plugins"));
        }
        let threads = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            directories,
            // Not its path, where a newer version may be by now.
            executable: "/proc/self/exe".into(),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            cache: default_cache(),
            options: BTreeMap::new(),
        })
    }
}

/// A file that is not used.
#[derive(Debug, Serialize)]
pub struct RefusedPlugin {
    pub path: PathBuf,
    /// One sentence that begins with the path.
    pub reason: String,
    /// What the plugin's author wants to know on top; may be empty, may be long.
    pub details: String,
}

/// The backends, in the order of their directories and names.
#[derive(Default)]
pub struct Registry {
    backends: Vec<Arc<Backend>>,
    refused: Vec<RefusedPlugin>,
    warnings: Vec<String>,
}

/// Why no backend takes a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    #[error("there is no backend to load {} with: {}", path.display(), why.join("; "))]
    NoBackends { path: PathBuf, why: Vec<String> },
    #[error("there is no backend `{name}`: use one of {}, or put its plugin into a plugin directory", known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("the backend `{name}` could be any of {}: give its whole id", ids.join(", "))]
    Ambiguous { name: String, ids: Vec<String> },
    #[error("no backend can load {}: {}", path.display(), why.join("; "))]
    Unsupported { path: PathBuf, why: Vec<String> },
}

impl Registry {
    /// Tries every plugin file and starts the good ones. Takes a moment for each: a child process tries it out first.
    pub fn load(options: &RegistryOptions) -> Self {
        let Discovered { files, empty } = discover(&options.directories);
        let mut registry = Self::default();
        for warning in empty {
            tracing::warn!("{warning}");
            registry.warnings.push(warning.to_string());
        }
        for path in files {
            registry.add(path, options);
        }
        registry
    }

    /// What can be used.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Files that cannot be used.
    pub fn refused(&self) -> &[RefusedPlugin] {
        &self.refused
    }

    /// Directories that gave no plugins, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The backend for a model: the named one, by its id or the last part of it, or the one that fits the file best.
    pub fn choose(&self, path: &Path, name: Option<&str>) -> Result<&Arc<Backend>, ChooseError> {
        if self.backends.is_empty() {
            let refused = self.refused.iter().map(|refused| refused.reason.clone());
            return Err(ChooseError::NoBackends {
                path: path.into(),
                why: self.warnings.iter().cloned().chain(refused).collect(),
            });
        }
        match name {
            Some(name) => self.named(name),
            None => self.best_for(path),
        }
    }

    fn add(&mut self, path: PathBuf, options: &RegistryOptions) {
        match self.start(&path, options) {
            Ok(backend) => {
                let id = &backend.descriptor().id;
                tracing::info!(id, path = %path.display(), "plugin loaded");
                self.backends.push(Arc::new(backend));
            }
            Err(Refusal { reason, details }) => {
                let reason = format!("{} {reason}", path.display());
                tracing::warn!("{reason}");
                self.refused.push(RefusedPlugin {
                    path,
                    reason,
                    details,
                });
            }
        }
    }

    fn start(&self, path: &Path, options: &RegistryOptions) -> Result<Backend, Refusal> {
        let file = File::open(path)
            .map_err(|error| refusal(format!("cannot be read ({error}): check its permissions")))?;
        elf::check(&file).map_err(|error| refusal(error.to_string()))?;
        let probed = probe(&options.executable, &file)?;
        if let Some(first) = self.by_id(&probed.id) {
            let (id, first) = (&probed.id, first.path().display());
            return Err(refusal(format!(
                "has the same id as {first}, {id}: remove one of them"
            )));
        }
        let plugin = Plugin::open(file)?;
        let own_options = options.options.get(&probed.id).cloned().unwrap_or_default();
        let own_options = Value::Object(own_options).to_string();
        Backend::start(
            &plugin,
            path.into(),
            options.threads,
            &options.cache,
            &own_options,
        )
        .map_err(|error| refusal(format!("did not start: {error}")))
    }

    fn by_id(&self, id: &str) -> Option<&Arc<Backend>> {
        self.backends
            .iter()
            .find(|backend| backend.descriptor().id == id)
    }

    fn named(&self, name: &str) -> Result<&Arc<Backend>, ChooseError> {
        if let Some(backend) = self.by_id(name) {
            return Ok(backend);
        }
        let is_short =
            |backend: &&Arc<Backend>| backend.descriptor().id.rsplit('.').next() == Some(name);
        let candidates: Vec<_> = self.backends.iter().filter(is_short).collect();
        match candidates[..] {
            [backend] => Ok(backend),
            [] => Err(ChooseError::Unknown {
                name: name.into(),
                known: ids(&self.backends),
            }),
            _ => Err(ChooseError::Ambiguous {
                name: name.into(),
                ids: ids(candidates),
            }),
        }
    }

    /// The highest score; the first backend among equals.
    fn best_for(&self, path: &Path) -> Result<&Arc<Backend>, ChooseError> {
        let mut best = None;
        let mut why = Vec::new();
        for backend in &self.backends {
            let (score, reason) = match backend.supports(path) {
                Ok(support) => (support.score, support.reason),
                Err(error) => (0, error.message),
            };
            if score > best.map_or(0, |(score, _)| score) {
                best = Some((score, backend));
            }
            why.push(format!("{}: {reason}", backend.descriptor().id));
        }
        let path = path.into();
        best.map(|(_, backend)| backend)
            .ok_or(ChooseError::Unsupported { path, why })
    }
}

fn refusal(reason: String) -> Refusal {
    Refusal {
        reason,
        details: String::new(),
    }
}

fn ids<'a>(backends: impl IntoIterator<Item = &'a Arc<Backend>>) -> Vec<String> {
    let ids = backends
        .into_iter()
        .map(|backend| backend.descriptor().id.clone());
    ids.collect()
}
