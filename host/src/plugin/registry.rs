//! All backends of the process, and the files that are not used.

use std::{
    collections::BTreeMap,
    io,
    num::NonZero,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, available_parallelism},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    Backend, InstalledPlugin, UnusedFile,
    candidate::try_out,
    cpu::Cpu,
    discover::{Discovered, Library, discover},
    host_services::default_cache,
    probe::{Probe, Request},
};
use crate::{config::DEFAULT_TRY_TIMEOUT_SECS, system::installation};

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
    /// Models for which a backend may be chosen by how well it fits.
    pub models: Vec<PathBuf>,
    /// Longest time for each step of a plugin: being loaded, starting, and looking at a model.
    pub try_timeout: Duration,
}

/// This program. It is not the program's path, because a newer version may be there by now.
pub const EXECUTABLE: &str = "/proc/self/exe";

/// Number of libraries that are tried out at the same time.
const TRIED_AT_ONCE: usize = 32;

impl RegistryOptions {
    /// Options for these directories, or for the one that came with this program if there are none: all cores, the user's
    /// cache, no plugin options, no models.
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
            models: Vec::new(),
            try_timeout: Duration::from_secs(DEFAULT_TRY_TIMEOUT_SECS.get().into()),
        })
    }

    fn request(&self) -> Request {
        let models = self.models.iter();
        Request {
            threads: self.threads,
            cache: self.cache.to_string_lossy().into_owned(),
            options: self.options.clone(),
            files: models
                .filter_map(|path| path.to_str().map(str::to_owned))
                .collect(),
        }
    }
}

/// The plugins, ordered by directory and name.
#[derive(Default)]
pub struct Registry {
    plugins: Vec<InstalledPlugin>,
    request: Request,
    refused: Vec<UnusedFile>,
    warnings: Vec<String>,
}

/// Why no backend was chosen for a model.
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
    #[error("{0}")]
    DoesNotStart(String),
}

impl Registry {
    /// Tries every plugin file in child processes. Takes a moment, and as long as `try_timeout` if a plugin hangs.
    pub fn load(options: &RegistryOptions) -> Self {
        let Discovered {
            libraries,
            warnings,
        } = discover(&options.directories);
        let mut registry = Self {
            request: options.request(),
            ..Self::default()
        };
        for warning in warnings {
            tracing::warn!("{warning}");
            registry.warnings.push(warning.to_string());
        }
        let probe = Probe {
            executable: options.executable.clone(),
            request: registry.request.clone(),
            timeout: options.try_timeout,
        };
        for libraries in libraries.chunks(TRIED_AT_ONCE) {
            for tried in try_all(libraries, &probe) {
                registry.add(tried);
            }
        }
        registry
    }

    /// Plugins that can be used.
    pub fn plugins(&self) -> &[InstalledPlugin] {
        &self.plugins
    }

    /// Files that cannot be used.
    pub fn refused(&self) -> &[UnusedFile] {
        &self.refused
    }

    /// Warnings about directories, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The backend for a model, as [`plugin_for`](Self::plugin_for) chooses its plugin. It is started in this process if it was
    /// not yet.
    pub fn choose(&self, path: &Path, name: Option<&str>) -> Result<Arc<Backend>, ChooseError> {
        let backend = self.plugin_for(path, name)?.backend(&self.request);
        backend.map_err(ChooseError::DoesNotStart)
    }

    /// The plugin for a model: the named one, by its id or the last part of the id, or the one that fits the file best. `path`
    /// must be one of the options' models.
    pub fn plugin_for(
        &self,
        path: &Path,
        name: Option<&str>,
    ) -> Result<&InstalledPlugin, ChooseError> {
        if self.plugins.is_empty() {
            let refused = self.refused.iter().map(|refused| refused.reason.clone());
            return Err(ChooseError::NoBackends {
                path: path.into(),
                why: self.warnings.iter().cloned().chain(refused).collect(),
            });
        }
        match name {
            Some(name) => self
                .named(name)
                .and_then(|plugin| not_broken_by(path, plugin)),
            None => self.best_for(path),
        }
    }

    /// Directory for files that plugins can make again.
    pub fn cache(&self) -> &Path {
        Path::new(&self.request.cache)
    }

    /// The options of the plugin with this id, as a JSON object. `{}` if there are none.
    pub fn options_of(&self, id: &str) -> String {
        self.request.options_of(id)
    }

    fn add(&mut self, tried: Result<InstalledPlugin, Vec<UnusedFile>>) {
        match tried {
            Ok(plugin) => match self.by_id(&plugin.facts.id) {
                Some(first) => {
                    let refused = same_id(&plugin, first);
                    tracing::warn!("{}", refused.reason);
                    self.refused.push(refused);
                }
                None => {
                    let InstalledPlugin { facts, path, .. } = &plugin;
                    tracing::info!(id = facts.id, path = %path.display(), "plugin found");
                    self.plugins.push(plugin);
                }
            },
            Err(refused) => self.refused.extend(refused),
        }
    }

    fn by_id(&self, id: &str) -> Option<&InstalledPlugin> {
        self.plugins.iter().find(|plugin| plugin.facts.id == id)
    }

    fn named(&self, name: &str) -> Result<&InstalledPlugin, ChooseError> {
        if let Some(plugin) = self.by_id(name) {
            return Ok(plugin);
        }
        let is_short = |plugin: &&InstalledPlugin| plugin.facts.id.rsplit('.').next() == Some(name);
        let candidates: Vec<_> = self.plugins.iter().filter(is_short).collect();
        match candidates[..] {
            [plugin] => Ok(plugin),
            [] => Err(ChooseError::Unknown {
                name: name.into(),
                known: ids(&self.plugins),
            }),
            _ => Err(ChooseError::Ambiguous {
                name: name.into(),
                ids: ids(candidates),
            }),
        }
    }

    /// The plugin with the highest score, and the first one among equals.
    fn best_for(&self, path: &Path) -> Result<&InstalledPlugin, ChooseError> {
        let mut best = None;
        let mut why = Vec::new();
        for plugin in &self.plugins {
            let (score, reason) = plugin.supports(path).unwrap_or_else(|why| (0, why));
            if score > best.map_or(0, |(score, _)| score) {
                best = Some((score, plugin));
            }
            why.push(format!("{}: {reason}", plugin.facts.id));
        }
        let path = path.into();
        best.map(|(_, plugin)| plugin)
            .ok_or(ChooseError::Unsupported { path, why })
    }
}

/// Tries all libraries at the same time, so that several that hang take no longer than one.
fn try_all(libraries: &[Library], probe: &Probe) -> Vec<Result<InstalledPlugin, Vec<UnusedFile>>> {
    let cpu = Cpu::detect();
    thread::scope(|scope| {
        let tries = libraries
            .iter()
            .map(|library| scope.spawn(|| try_out(library, &cpu, probe)));
        let tries: Vec<_> = tries.collect();
        let tried = tries.into_iter().map(|tried| tried.join());
        // A panic continues in this thread.
        tried
            .map(|tried| tried.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

/// Refuses a plugin that crashed while it looked at the file: it would crash again if it had to load it.
fn not_broken_by<'a>(
    path: &Path,
    plugin: &'a InstalledPlugin,
) -> Result<&'a InstalledPlugin, ChooseError> {
    match plugin.supports(path) {
        Ok(_) => Ok(plugin),
        Err(why) => Err(ChooseError::Unsupported {
            path: path.into(),
            why: vec![format!("{}: {why}", plugin.facts.id)],
        }),
    }
}

fn same_id(plugin: &InstalledPlugin, first: &InstalledPlugin) -> UnusedFile {
    let (id, first) = (&plugin.facts.id, first.path.display());
    let reason = format!("has the same id as {first}, {id}: remove one of them");
    UnusedFile::new(&plugin.path, &reason, String::new())
}

fn ids<'a>(plugins: impl IntoIterator<Item = &'a InstalledPlugin>) -> Vec<String> {
    let ids = plugins.into_iter().map(|plugin| plugin.facts.id.clone());
    ids.collect()
}
