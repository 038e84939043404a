//! Tries a library out in a child process, so that a crash or a hang ends the child and not the host.
//!
//! 1. The host starts this same program as `tenon worker --trial` (`process`), in a sandbox like that of workers.
//! 2. The host sends a `TrialRequest`, a line of JSON.
//! 3. The child loads the library, starts its backend and asks it about the models that are to be served (`trial`). It
//!    announces each step and reports the results as `TrialMessage`s, each a line of JSON.
//! 4. The host ends the child and its whole process group. A child that ended by itself, or took too long for a step, has
//!    failed in the step that it announced last.
//!
//! What the library prints goes to a separate socket. The end of that output is kept for the library's author.

pub mod illegal;
mod messages;
mod process;
mod trial;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use messages::{PluginFacts, Refusal, SupportsAnswer, TrialRequest};
pub use trial::run;

use tempfile::TempDir;

use super::TrustedKeys;
use messages::{TrialMessage, TrialStep};
use process::{Child, ChildEnd};

/// Most bytes that a library may allocate while it is tried out, in its process. It loads no weights then, but the stacks of its
/// threads count, which may be some hundred on a large machine.
const MAX_MEMORY: u64 = 4 << 30;

/// The settings with which libraries are tried out.
#[derive(Clone, Default)]
pub(super) struct ProbeSettings {
    /// The path of this program.
    pub executable: PathBuf,
    pub request: TrialRequest,
    /// Keys that a library must be signed with before any of its code runs.
    pub trusted: TrustedKeys,
    /// Longest time for each step.
    pub timeout: Duration,
}

/// The result for a library that can be used.
#[derive(Debug)]
pub(super) struct Probed {
    pub facts: PluginFacts,
    /// Answers by model file of the request.
    pub answers: BTreeMap<String, SupportsAnswer>,
}

impl ProbeSettings {
    /// The same settings for a question about these models.
    pub fn about(&self, models: &[&&str]) -> Self {
        let files = models.iter().map(|path| path.to_string());
        Self {
            request: TrialRequest {
                files: files.collect(),
                ..self.request.clone()
            },
            ..self.clone()
        }
    }

    /// Tries out the open library at a path.
    ///
    /// If it crashes on a model's file, the library may still be used for others: another child goes on with the next file.
    pub fn run(&self, path: &Path, library: &File) -> Result<Probed, Refusal> {
        let files = &self.request.files;
        let cache = private_cache()?;
        let mut answers = Vec::new();
        // Each child answers for at least one file, or is the last one.
        for _ in 0..=files.len() {
            let request = self.request.of_library(path, cache.path(), answers.len());
            let child = Child::start(&self.executable, library, &request, self.timeout);
            let child = child.map_err(|error| self.no_child(&error))?;
            let mut report = ChildReport::default();
            let end = child.listen(|message| report.take(message));
            answers.append(&mut report.answers);
            match self.failure(&report, &end) {
                Some(TrialFailure::OnFile(reason)) => answers.push(Err(reason)),
                Some(TrialFailure::OfLibrary(refusal)) => return Err(refusal),
                None => {}
            }
            if let (Some(facts), true) = (report.facts, answers.len() >= files.len()) {
                let answers = files.iter().cloned().zip(answers).collect();
                return Ok(Probed { facts, answers });
            }
        }
        let reason = "answers differently each time that it is tried out: tell its author";
        Err(Refusal::new(reason))
    }

    fn failure(&self, report: &ChildReport, end: &ChildEnd) -> Option<TrialFailure> {
        let refused = report.refused.clone();
        let refused = refused.or_else(|| {
            let died_of_it = end.signal() == Some(libc::SIGILL);
            let bytes = report.illegal.as_ref().filter(|_| died_of_it)?;
            Some(Refusal::new(illegal::reason(bytes, Some(&report.step))))
        });
        if let Some(refusal) = refused {
            return Some(TrialFailure::OfLibrary(refusal.with_output(&end.output)));
        }
        // A child that is done stays alive until the host kills it.
        if report.done == Some(end.pid) && end.signal() == Some(libc::SIGKILL) {
            return None;
        }
        let reason = self.unexpected(&report.step, end);
        let of_library = end.timed_out || end.signal() == Some(libc::SIGILL);
        Some(match report.step {
            TrialStep::Supports(_) if !of_library => TrialFailure::OnFile(reason),
            _ => TrialFailure::OfLibrary(Refusal::new(reason).with_output(&end.output)),
        })
    }

    fn unexpected(&self, step: &TrialStep, end: &ChildEnd) -> String {
        let tell = "build the plugin for this machine, or tell its author";
        match end.status {
            _ if end.timed_out => format!(
                "was still {step} after {} seconds: tell its author, or raise try_timeout_secs of [plugins]",
                self.timeout.as_secs()
            ),
            Some(status) if end.lacked_memory() => format!(
                "took more than the {} GiB of memory that a plugin may have before it loads a model, while {step} ({status}): tell its author",
                MAX_MEMORY >> 30
            ),
            Some(status) if end.signal().is_some() => {
                format!("crashed while {step} ({status}): {tell}")
            }
            Some(status) => format!("ended the process while {step} ({status}): {tell}"),
            None => format!("cannot be ended while {step}: tell its author"),
        }
    }

    fn no_child(&self, error: &io::Error) -> Refusal {
        Refusal::new(format!(
            "cannot be tried out, because {} does not start ({error}): check that the file may be executed",
            self.executable.display()
        ))
    }
}

/// Shared memory. Containers in which nothing else can be written have it.
const SHARED_MEMORY: &str = "/dev/shm";

/// A temporary directory for the files of a library that is tried out. Dropping it removes the directory.
fn private_cache() -> Result<TempDir, Refusal> {
    let mut builder = tempfile::Builder::new();
    let named = builder.prefix("tenon-trial-");
    let directory = named
        .tempdir()
        .or_else(|error| named.tempdir_in(SHARED_MEMORY).map_err(|_| error));
    directory.map_err(|error| {
        Refusal::new(format!(
            "cannot be tried out, because there is no temporary directory for its files ({error}): set TMPDIR to one that can be written"
        ))
    })
}

/// The reports of a child so far.
#[derive(Default)]
struct ChildReport {
    step: TrialStep,
    illegal: Option<Vec<u8>>,
    facts: Option<PluginFacts>,
    answers: Vec<SupportsAnswer>,
    refused: Option<Refusal>,
    done: Option<u32>,
}

enum TrialFailure {
    OfLibrary(Refusal),
    /// The failure concerns only the model file that the library was asked about.
    OnFile(String),
}

impl ChildReport {
    fn take(&mut self, message: TrialMessage) {
        match message {
            TrialMessage::Begin(step) => self.step = step,
            TrialMessage::Illegal(bytes) => self.illegal = Some(bytes),
            TrialMessage::Started(facts) => self.facts = Some(*facts),
            TrialMessage::Answer(answer) => self.answers.push(answer),
            TrialMessage::Refused(refusal) => self.refused = Some(refusal),
            TrialMessage::Done { pid } => self.done = Some(pid),
        }
    }
}
