//! Plugins that can be used, and files that are not used.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use serde::Serialize;

use super::{
    Backend,
    cpu::Level,
    load::Plugin,
    probe::{Answer, Facts, Request},
};

/// A plugin that was tried out in a child process. This process opens its library when a model is first loaded with it.
#[derive(Serialize)]
pub struct InstalledPlugin {
    #[serde(flatten)]
    pub facts: Facts,
    /// The file that is used.
    pub path: PathBuf,
    /// The CPU level of the file. None: the file is for every CPU.
    pub level: Option<Level>,
    /// Other variants of the plugin.
    pub passed_over: Vec<UnusedFile>,
    /// The plugin's answers about the models it was asked about, by path.
    #[serde(skip)]
    pub(super) answers: BTreeMap<String, Answer>,
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
    pub(super) fn supports(&self, model: &Path) -> Result<(u32, &str), &str> {
        match model.to_str().and_then(|path| self.answers.get(path)) {
            Some(Ok((score, reason))) => Ok((*score, reason)),
            Some(Err(why)) => Err(why),
            None => Ok((0, "was not asked, because the path is not UTF-8: rename it")),
        }
    }

    /// The plugin's backend in this process. The first call starts it.
    ///
    /// # Errors
    /// One sentence. If the child process could start the backend, the plugin does not always behave the same.
    pub(super) fn backend(&self, request: &Request) -> Result<Arc<Backend>, String> {
        let backend = self.backend.get_or_init(|| {
            let backend = self.start(request);
            backend.map_err(|reason| format!("{} {reason}", self.path.display()))
        });
        backend.clone()
    }

    fn start(&self, request: &Request) -> Result<Arc<Backend>, String> {
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
