//! All backends of the process, and the files that are not used.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use serde::Serialize;

use super::{
    Backend, Current, InstalledPlugin, RegistryOptions, UnusedFile,
    candidate::try_out,
    cpu::Cpu,
    discover::{Discovered, LibraryBuilds, discover},
    known,
    probe::{ProbeSettings, SupportsAnswer, TrialRequest},
};

/// Number of libraries that are tried out at the same time.
const TRIED_AT_ONCE: usize = 32;

/// The plugins, ordered by directory and name. A registry never changes: when the directories do, another one is made.
#[derive(Default, Serialize)]
pub struct Registry {
    #[serde(rename = "backends")]
    plugins: Vec<Arc<InstalledPlugin>>,
    refused: Vec<UnusedFile>,
    warnings: Vec<String>,
    #[serde(skip)]
    probe: ProbeSettings,
    #[serde(skip)]
    trials: Vec<(LibraryBuilds, TrialResult)>,
}

/// The registry that new loads use.
pub type CurrentPlugins = Current<Arc<Registry>>;

/// The result for a library. Err: no variant can be used.
type TrialResult = Result<Arc<InstalledPlugin>, Vec<UnusedFile>>;

/// Why no backend was chosen for a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    #[error("there is no backend to load {} with: {}", path.display(), why.join("; "))]
    NoBackends { path: PathBuf, why: Vec<String> },
    #[error("there is no backend `{name}`: use one of {}, or {}", known.join(", "), known::library_of(name).unwrap_or("put its plugin into a plugin directory".into()))]
    Unknown { name: String, known: Vec<String> },
    #[error("the backend `{name}` could be any of {}: give its whole id", ids.join(", "))]
    Ambiguous { name: String, ids: Vec<String> },
    #[error("no backend can load {}: {}", path.display(), why.join("; "))]
    Unsupported { path: PathBuf, why: Vec<String> },
    #[error("{0}")]
    DoesNotStart(String),
}

impl ChooseError {
    /// Whether only a plugin is missing: there is none at all, or not the named one.
    pub fn is_lack_of_plugin(&self) -> bool {
        matches!(self, Self::NoBackends { .. } | Self::Unknown { .. })
    }
}

impl Registry {
    /// Tries every plugin file in child processes. Takes a moment, and as long as `try_timeout` if a plugin hangs.
    pub fn load(options: &RegistryOptions) -> Self {
        Self::default().renewed(options)
    }

    /// A registry of what the directories contain now. Unchanged files are not tried again. Logs the differences.
    pub fn renewed(&self, options: &RegistryOptions) -> Self {
        let Discovered {
            libraries,
            warnings,
        } = discover(&options.directories);
        let probe = ProbeSettings {
            executable: options.executable.clone(),
            request: options.request(),
            trusted: options.trusted_keys.clone(),
            timeout: options.try_timeout,
        };
        let mut registry = Self {
            probe: probe.clone(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        for libraries in libraries.chunks(TRIED_AT_ONCE) {
            for (library, trial) in libraries.iter().zip(self.try_all(libraries, &probe)) {
                registry.add(library.clone(), trial);
            }
        }
        registry.log_changes(self);
        registry
    }

    /// Plugins that can be used.
    pub fn plugins(&self) -> &[Arc<InstalledPlugin>] {
        &self.plugins
    }

    /// The plugin with this id.
    pub fn plugin(&self, id: &str) -> Option<&Arc<InstalledPlugin>> {
        self.plugins.iter().find(|plugin| plugin.facts.id == id)
    }

    /// The plugins that an earlier registry does not have, or has from another file.
    pub fn new_since(&self, before: &Self) -> impl Iterator<Item = &Arc<InstalledPlugin>> {
        let is_old = |plugin: &Arc<_>| before.plugins.iter().any(|old| Arc::ptr_eq(old, plugin));
        self.plugins.iter().filter(move |plugin| !is_old(plugin))
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
        let backend = self.plugin_for(path, name)?.backend(&self.probe.request);
        backend.map_err(ChooseError::DoesNotStart)
    }

    /// The plugin for a model: the named one, by its id or the last part of the id, or the one that fits the file best. For a
    /// model that is not in the options, this may take as long as a child process.
    pub fn plugin_for(
        &self,
        path: &Path,
        name: Option<&str>,
    ) -> Result<&InstalledPlugin, ChooseError> {
        if self.plugins.is_empty() {
            let refused = self.refused.iter().map(|refused| refused.reason.clone());
            let why = self.warnings.iter().cloned().chain(refused);
            return Err(ChooseError::NoBackends {
                path: path.into(),
                why: why.chain(known::advice(path, &[])).collect(),
            });
        }
        self.ask(&[path]);
        match name {
            Some(name) => self
                .named(name)
                .and_then(|plugin| not_broken_by(path, plugin)),
            None => self.best_for(path),
        }
    }

    /// The answer of each plugin about a model: how well the plugin fits, 0 to 100, and why; or why it could not be asked. For a
    /// model that is not in the options, this may take as long as a child process.
    pub fn answers(&self, path: &Path) -> Vec<(&InstalledPlugin, SupportsAnswer)> {
        self.ask(&[path]);
        let plugins = self.plugins.iter().map(Arc::as_ref);
        plugins
            .map(|plugin| (plugin, plugin.supports(path)))
            .collect()
    }

    /// The files and directories of `paths` that a plugin can load. The plugins look at those that are new.
    pub fn supported<'a>(&self, paths: &'a [PathBuf]) -> Vec<&'a PathBuf> {
        self.ask(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        let is_supported = |path: &&PathBuf| {
            let mut answers = self.plugins.iter().map(|plugin| plugin.supports(path));
            answers.any(|answer| answer.is_ok_and(|(score, _)| score > 0))
        };
        paths.iter().filter(is_supported).collect()
    }

    /// Directory for files that plugins can make again.
    pub fn cache(&self) -> &Path {
        Path::new(&self.probe.request.cache)
    }

    /// The options of the plugin with this id, as a JSON object. `{}` if there are none.
    pub fn options_of(&self, id: &str) -> String {
        self.probe.request.options_of(id)
    }

    /// Asks all plugins at the same time about the models that they do not know yet.
    fn ask(&self, paths: &[&Path]) {
        let paths: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
        let (paths, probe) = (&paths, &self.probe);
        thread::scope(|scope| {
            for plugin in &self.plugins {
                scope.spawn(move || plugin.ask(paths, probe));
            }
        });
    }

    /// The results for libraries. New libraries are tried at the same time, so that several that hang take no longer than one.
    fn try_all(&self, libraries: &[LibraryBuilds], probe: &ProbeSettings) -> Vec<TrialResult> {
        let cpu = Cpu::detect();
        let trial = |library| match self.trial_of(library, &probe.request) {
            Some(trial) => trial.clone(),
            None => try_out(library, &cpu, probe).map(Arc::new),
        };
        thread::scope(|scope| {
            let trials = libraries.iter();
            let trials: Vec<_> = trials
                .map(|library| scope.spawn(move || trial(library)))
                .collect();
            let trials = trials.into_iter().map(|trial| trial.join());
            // A panic continues in this thread.
            trials
                .map(|trial| trial.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    }

    /// The earlier result for a library, if neither its files nor the request have changed.
    fn trial_of(&self, library: &LibraryBuilds, request: &TrialRequest) -> Option<&TrialResult> {
        let mut trials = self
            .trials
            .iter()
            .filter(|_| self.probe.request == *request);
        let trial = trials.find(|(tried, _)| tried == library);
        trial.map(|(_, trial)| trial)
    }

    fn add(&mut self, library: LibraryBuilds, trial: TrialResult) {
        match &trial {
            Ok(plugin) => match self.plugin(&plugin.facts.id) {
                Some(first) => self.refused.push(same_id(plugin, first)),
                None => self.plugins.push(plugin.clone()),
            },
            Err(refused) => self.refused.extend(refused.iter().cloned()),
        }
        self.trials.push((library, trial));
    }

    /// Logs how this registry differs from an earlier one. Trials log by themselves which files cannot be used.
    fn log_changes(&self, before: &Self) {
        for warning in &self.warnings {
            if !before.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        for plugin in self.new_since(before) {
            let InstalledPlugin { facts, path, .. } = &**plugin;
            let what = match before.plugin(&facts.id) {
                Some(_) => "plugin replaced",
                None => "plugin found",
            };
            tracing::info!(id = facts.id, path = %path.display(), "{what}");
        }
        for InstalledPlugin { facts, path, .. } in before.plugins.iter().map(Arc::as_ref) {
            if self.plugin(&facts.id).is_none() {
                tracing::info!(id = facts.id, path = %path.display(), "plugin removed");
            }
        }
    }

    /// The plugin with this id, or whose id ends with this name.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn named(&self, name: &str) -> Result<&InstalledPlugin, ChooseError> {
        if let Some(plugin) = self.plugin(name) {
            return Ok(plugin);
        }
        let is_short = |plugin: &&InstalledPlugin| plugin.facts.id.rsplit('.').next() == Some(name);
        let plugins = self.plugins.iter().map(Arc::as_ref);
        let candidates: Vec<_> = plugins.filter(is_short).collect();
        match candidates[..] {
            [plugin] => Ok(plugin),
            [] => Err(ChooseError::Unknown {
                name: name.into(),
                known: ids(self.plugins.iter().map(Arc::as_ref)),
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
        best.map(|(_, plugin)| plugin.as_ref())
            .ok_or_else(|| self.unsupported(path, why))
    }

    /// The error for a model that no plugin can load. What the plugins say comes last: their formats may be unknown here.
    fn unsupported(&self, path: &Path, said: Vec<String>) -> ChooseError {
        let ids = self.plugins.iter().map(|plugin| plugin.facts.id.as_str());
        let advice = known::advice(path, &ids.collect::<Vec<_>>());
        let said = path.exists().then_some(said);
        ChooseError::Unsupported {
            path: path.into(),
            why: advice
                .into_iter()
                .chain(said.into_iter().flatten())
                .collect(),
        }
    }
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
