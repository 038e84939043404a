//! Child processes that run the code of a plugin: this program again, with the open library. A worker computes a model
//! (`crate::runner::process`); a trial finds out whether the plugin can be used (`probe`).
//!
//! 1. The parent starts a child by [`command`]. The child's standard input is the open library, its standard output a socket.
//! 2. The child takes both as [`Given`], and receives a first message, which says what it is to do.
//! 3. It enters its [`Confinement`] before it loads the library.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, stderr, stdin, stdout},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    process::{Resource, Signal, set_parent_process_death_signal},
    stdio::dup2_stdout,
};
use thiserror::Error;

use crate::{
    config, hub,
    system::{
        resource_limits,
        sandbox::{Sandbox, SandboxError},
        secret_variables,
    },
};

/// The command that makes this program such a child.
pub const COMMAND: &str = "worker";

/// The command of a child. It leads a process group of its own, so Ctrl-C does not end it, and its parent can end all that it
/// starts.
pub fn command(executable: &Path, library: File, socket: UnixStream) -> Command {
    let mut command = Command::new(executable);
    command
        .arg0("tenon")
        .arg(COMMAND)
        // The child gets the open file, not its name: another file may have that name by then.
        .stdin(library)
        .stdout(OwnedFd::from(socket))
        .env_clear()
        .envs(environment())
        .process_group(0);
    command
}

/// The beginnings of the names of variables that no child gets: those of the server's configuration, and those of the collector
/// of traces, whose headers may have a key.
const PRIVATE: [&str; 2] = ["TENON__", "OTEL_EXPORTER_OTLP_"];

/// The variables of a child: all but the [`PRIVATE`] ones, those from which the configuration takes clients' keys, and the tokens
/// for hubs.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let of_keys = secret_variables::names();
    let is_secret = move |name: &OsString| {
        let is_private = |begin: &&str| name.as_encoded_bytes().starts_with(begin.as_bytes());
        PRIVATE.iter().any(is_private)
            || name.to_str().is_some_and(|name| of_keys.contains(name))
            || hub::TOKEN_VARIABLES.iter().any(|token| name == token)
    };
    env::vars_os().filter(move |(name, _)| !is_secret(name))
}

/// The library and the socket that this process got from its parent.
pub struct Given {
    /// The open library.
    pub library: File,
    /// The socket to the parent.
    pub socket: UnixStream,
}

impl Given {
    /// Takes them from the standard input and output. What the library prints to the standard output goes to the standard error output from now on.
    ///
    /// # Errors
    /// The standard input or output is closed.
    pub fn take() -> io::Result<Self> {
        let library = File::from(stdin().as_fd().try_clone_to_owned()?);
        let socket = UnixStream::from(stdout().as_fd().try_clone_to_owned()?);
        dup2_stdout(stderr())?;
        Ok(Self { library, socket })
    }
}

/// Why a process could not be confined. It may be confined in part.
#[derive(Debug, Error)]
pub enum ConfinementError {
    #[error("its memory cannot be limited ({0})")]
    Memory(#[source] io::Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Limits what the code of a plugin may do to this process and its user.
pub struct Confinement {
    pub sandbox: config::Sandbox,
    /// Most bytes that the process may allocate. A model's file that is mapped does not count.
    pub memory_bytes: Option<u64>,
    /// The path of the plugin's file.
    pub plugin: PathBuf,
    /// The models to read.
    pub models: Vec<PathBuf>,
    /// The directory to write, which is made if it is missing.
    pub cache: PathBuf,
}

impl Confinement {
    /// Confines this process before it loads its library. Returns a sentence for each restriction that the kernel does not support.
    ///
    /// # Errors
    /// The process has several threads, which would stay outside, or the kernel refuses restrictions that it supports.
    pub fn enter(self, library: &File) -> Result<Vec<String>, ConfinementError> {
        if let Some(bytes) = self.memory_bytes {
            resource_limits::lower(Resource::Data, bytes).map_err(ConfinementError::Memory)?;
        }
        if self.sandbox == config::Sandbox::Off {
            return Ok(Vec::new());
        }
        // Only what exists can be allowed. A cache that cannot be made cannot be used either.
        let _ = fs::create_dir_all(&self.cache);
        let folder = self.plugin.parent().map(Path::to_owned);
        // Where the path is a link, the libraries that the plugin brings are beside the file itself.
        let itself = fs::canonicalize(&self.plugin).ok();
        let folders = folder
            .into_iter()
            .chain(itself.map(|file| readable_of(&file)));
        let models = self.models.iter().map(|model| readable_of(model));
        let readable = models.chain(of_library(library)).chain(folders).collect();
        let writable = vec![self.cache];
        Ok(Sandbox { readable, writable }.enter()?)
    }
}

/// Has this process end with its parent, and write no core dump.
pub fn end_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    resource_limits::no_core_dump()
}

/// The path that a child may read for a model or a linked plugin. A directory is readable itself. Of a file the whole folder is readable,
/// because the file may be replaced and may have parts beside it. If the user's home is in that folder, or is that folder, only the file
/// is readable.
fn readable_of(model: &Path) -> PathBuf {
    let home = env::home_dir().unwrap_or_default();
    match model.parent() {
        Some(folder) if model.is_file() && !home.starts_with(folder) => folder.to_owned(),
        _ => model.to_owned(),
    }
}

/// The path of the open library. None for the copy in memory of a signed library: it stays readable, and Landlock refuses rules
/// for it.
fn of_library(library: &File) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", library.as_raw_fd()));
    let name = fs::read_link(&path).unwrap_or_default();
    let in_memory = name.as_os_str().as_encoded_bytes().starts_with(b"/memfd:");
    (!in_memory).then_some(path)
}
