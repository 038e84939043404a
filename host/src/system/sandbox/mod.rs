//! The sandbox of a process that runs the code of a plugin: no network, no rights of other processes, and few files.
//! A plugin that is broken or hostile cannot read the user's files or send anything to anybody.
//!
//! 1. Make a [`Sandbox`] of the paths that this process needs beside the system's own.
//! 2. Call [`Sandbox::enter`] before the process starts a thread, and before it loads the plugin.
//! 3. Write the returned sentences to the log. They say what the kernel cannot restrict.
//!
//! The sandbox is inherited by all later threads and child processes, and nothing can leave it.

mod calls;
mod files;
#[cfg(test)]
mod tests;

use std::{fs, io, path::PathBuf};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_no_new_privs};
use thiserror::Error;

/// Paths that a process may use beside the system's libraries and devices. A directory includes everything below it. Paths that
/// do not exist are skipped.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Files and directories to read and execute: the model and the plugin's folders. The targets of links in one of these
    /// directories, or in a directory in it, may be read too, because caches of models consist of links. An open file is given as
    /// `/proc/self/fd/N`, so that it can be opened again.
    pub readable: Vec<PathBuf>,
    /// Directories to read, write and create files in; and further devices.
    pub writable: Vec<PathBuf>,
}

/// The reason why a sandbox could not be entered. The process may be restricted in part.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The process has several threads. A sandbox would leave the others out.
    #[error("the sandbox must be entered before the process starts its second thread")]
    Threads,
    /// The process may still have or gain privileges.
    #[error("the process cannot give up its privileges (`no_new_privs` and capabilities: {0})")]
    Privileges(#[source] io::Error),
    /// Landlock is there, but does not accept the rules.
    #[error("Landlock does not restrict the files ({0})")]
    Files(#[from] landlock::RulesetError),
    /// The filter of system calls cannot be made, for example for this kind of CPU.
    #[error("the filter of system calls cannot be made ({0})")]
    Calls(#[from] seccompiler::BackendError),
}

impl Sandbox {
    /// Enters the sandbox for the rest of the process. Files that are open remain usable. Returns a sentence for each
    /// restriction that the kernel does not support.
    ///
    /// # Errors
    /// The process has several threads, or the kernel refuses restrictions that it supports.
    pub fn enter(&self) -> Result<Vec<String>, SandboxError> {
        if threads() > 1 {
            return Err(SandboxError::Threads);
        }
        give_up_privileges().map_err(|error| SandboxError::Privileges(error.into()))?;
        let of_files = files::restrict(&self.readable, &self.writable)?;
        let of_calls = calls::restrict()?;
        Ok(of_files.into_iter().chain(of_calls).collect())
    }
}

/// Gives up gaining privileges, and those of root that reach other processes: with them, newer kernels show the environment of any
/// process, although Landlock refuses that. Other privileges stay, because a model's file may belong to another user.
fn give_up_privileges() -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    let kept = !(CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON | CapabilitySet::SYS_PTRACE);
    let mut sets = capabilities(None)?;
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable &= kept;
    set_capabilities(None, sets)
}

/// The number of threads of this process. 0 if unknown.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
