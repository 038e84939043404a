//! Plugins that can be used, and files that are not used.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde::Serialize;

use super::{
    Backend,
    cpu::CpuLevel,
    load::Plugin,
    probe::{PluginFacts, ProbeSettings, SupportsAnswer, TrialRequest},
};
use crate::system::file_state::FileState;

/// A plugin that was tried out in a child process. This process opens its library when a model is first loaded with it.
#[derive(Serialize)]
pub struct InstalledPlugin {
    #[serde(flatten)]
    pub facts: PluginFacts,
    /// The file that is used.
    pub path: PathBuf,
    /// The CPU level of the file. None: the file is for every CPU.
    pub level: Option<CpuLevel>,
    /// Other variants of the plugin.
    pub passed_over: Vec<UnusedFile>,
    /// The plugin's answers about the models it was asked about when it was tried out, by path.
    #[serde(skip)]
    pub(super) answers: BTreeMap<String, SupportsAnswer>,
    /// Its answers about other models, with the state of the file that it looked at.
    #[serde(skip)]
    pub(super) later_answers: Mutex<BTreeMap<String, (Option<FileState>, SupportsAnswer)>>,
    #[serde(skip)]
    pub(super) library: File,
    #[serde(skip)]
    pub(super) backend: OnceLock<Result<Arc<Backend>, String>>,
}

/// A file that is not used.
#[derive(Clone, Debug, Serialize)]
pub struct UnusedFile {
    pub path: PathBuf,
    /// One sentence that begins with the path.
    pub reason: String,
    /// More for the plugin's author. May be empty or long.
    pub details: String,
}

impl InstalledPlugin {
    /// How well the plugin fits a model, 0 to 100, and why, in a few words.
    ///
    /// # Errors
    /// The plugin crashed or panicked when it was asked.
    pub(super) fn supports(&self, model: &Path) -> SupportsAnswer {
        let answer = model.to_str().and_then(|path| self.answer(path));
        let unasked = "was not asked, because the path is not UTF-8: rename it";
        answer.unwrap_or_else(|| Ok((0, unasked.to_owned())))
    }

    /// Asks the plugin about the models that it was not asked about before, or whose files have changed since. Takes as long as a
    /// child process.
    pub(super) fn ask(&self, models: &[&str], probe: &ProbeSettings) {
        let is_unknown = |path: &&&str| {
            let is_current = |(state, _): &(_, _)| *state == FileState::of(Path::new(path));
            !self.answers.contains_key(**path) && !self.later().get(**path).is_some_and(is_current)
        };
        let models: Vec<_> = models.iter().filter(is_unknown).collect();
        if models.is_empty() {
            return;
        }
        let states = models.iter().map(|path| FileState::of(Path::new(path)));
        let states: Vec<_> = states.collect();
        let probed = probe.about(&models).run(&self.path, &self.library);
        for (path, state) in models.into_iter().zip(states) {
            let answer = match &probed {
                Ok(probed) => probed.answers.get(*path).cloned(),
                Err(refusal) => Some(Err(refusal.reason.clone())),
            };
            let answer = answer.map(|answer| (state, answer));
            self.later()
                .extend(answer.map(|answer| (path.to_string(), answer)));
        }
    }

    fn answer(&self, path: &str) -> Option<SupportsAnswer> {
        let later = || Some(self.later().get(path)?.1.clone());
        self.answers.get(path).cloned().or_else(later)
    }

    fn later(&self) -> MutexGuard<'_, BTreeMap<String, (Option<FileState>, SupportsAnswer)>> {
        self.later_answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin's backend in this process. The first call starts it.
    ///
    /// # Errors
    /// One sentence. If the child process could start the backend, the plugin does not always behave the same.
    pub(super) fn backend(&self, request: &TrialRequest) -> Result<Arc<Backend>, String> {
        let backend = self.backend.get_or_init(|| {
            let backend = self.start(request);
            backend.map_err(|reason| format!("{} {reason}", self.path.display()))
        });
        backend.clone()
    }

    fn start(&self, request: &TrialRequest) -> Result<Arc<Backend>, String> {
        let library = self.library();
        let library = library.map_err(|error| format!("cannot be opened ({error})"))?;
        let id = &self.facts.id;
        let (options, cache) = (request.options_of(id), Path::new(&request.cache));
        let backend = start_plugin(library, request.threads, cache, &options)?;
        tracing::info!(id, path = %self.path.display(), "plugin loaded");
        Ok(backend)
    }

    /// The open library that was tried out.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn library(&self) -> io::Result<File> {
        self.library.try_clone()
    }
}

/// Starts the backend of an open library in this process. Call it once per library and process.
///
/// # Errors
/// Why it cannot be started; this ends a sentence that begins with the file's path.
pub fn start_plugin(
    library: File,
    threads: u32,
    cache: &Path,
    options: &str,
) -> Result<Arc<Backend>, String> {
    let plugin = Plugin::open(library).map_err(|error| error.to_string())?;
    let backend = Backend::start(&plugin, threads, cache, options);
    let backend = backend.map_err(|error| format!("did not start: {error}"))?;
    Ok(Arc::new(backend))
}

impl UnusedFile {
    pub(super) fn new(path: &Path, reason: &str, details: String) -> Self {
        Self {
            path: path.into(),
            reason: format!("{} {reason}", path.display()),
            details,
        }
    }
}
