//! Tries grammars out in another process first. llguidance cannot be stopped, and a grammar of a few hundred bytes may
//! keep it busy for hours, take all memory or overflow the stack. With a trial, all that ends only the other process,
//! not the server.
//!
//! 1. The server starts its own program as `tenon try-grammars` (`trial/child.rs`). It starts another process if that
//!    one has ended.
//! 2. The server writes a [`CompileRequest`] to the standard input of the process, as one line of JSON.
//! 3. The process compiles the grammar as the server will, and writes a [`CompileReply`] to its standard output, as one line
//!    of JSON.
//! 4. The server kills the process if this takes too long.

pub mod child;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use toktrie::TokTrie;
use tracing::error;

use super::{GrammarError, messages::invalid};

/// This program, even if its file has been renamed or replaced since.
const EXECUTABLE: &str = "/proc/self/exe";
/// The command that runs [`child::run`].
pub const COMMAND: &str = "try-grammars";

/// Starts the processes for trials, and keeps those that are idle.
#[derive(Default)]
pub struct Trials {
    idle: Mutex<Vec<TrialProcess>>,
}

/// The facts about a model's tokens that compiling a grammar depends on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tokens {
    count: u32,
    /// The control tokens, which a grammar may name. Their bytes begin with llguidance's marker.
    control: BTreeMap<u32, Vec<u8>>,
}

#[derive(Deserialize, Serialize)]
struct CompileRequest<'a> {
    grammar: Cow<'a, TopLevelGrammar>,
    limits: Cow<'a, ParserLimits>,
    /// None: the tokens of the request before.
    tokens: Option<Cow<'a, Tokens>>,
}

#[derive(Debug, Deserialize, Serialize)]
enum CompileReply {
    /// Approximate size of the compiled grammar in memory.
    Compiled { bytes: usize },
    /// llguidance's reason to refuse the grammar.
    Refused(String),
}

/// Why there is no reply.
enum NoReply {
    /// The time limit passed.
    Late,
    /// The process ended.
    Ended,
}

impl Trials {
    /// Compiles a grammar in another process, for `limit` at most, and returns its approximate size in memory. Blocks
    /// meanwhile.
    pub fn run(
        &self,
        grammar: &TopLevelGrammar,
        limits: &ParserLimits,
        tokens: &Arc<Tokens>,
        limit: Duration,
    ) -> Result<usize, GrammarError> {
        let mut trial = self.begin()?;
        let request = CompileRequest {
            grammar: Cow::Borrowed(grammar),
            limits: Cow::Borrowed(limits),
            tokens: trial.news(tokens),
        };
        let mut request = serde_json::to_vec(&request).map_err(|_| GrammarError::Unstable)?;
        request.push(b'\n');
        match trial.ask(&request, limit) {
            Ok(reply) => {
                self.idle().push(trial);
                match reply {
                    CompileReply::Compiled { bytes } => Ok(bytes),
                    CompileReply::Refused(why) => Err(invalid(&why)),
                }
            }
            Err(NoReply::Late) => Err(GrammarError::Timeout(limit)),
            Err(NoReply::Ended) => Err(GrammarError::Unstable),
        }
    }

    fn begin(&self) -> Result<TrialProcess, GrammarError> {
        // The lock is not held while a process is checked or ended.
        let next = || self.idle().pop();
        let mut idle = std::iter::from_fn(next);
        if let Some(trial) = idle.find_map(TrialProcess::running) {
            return Ok(trial);
        }
        TrialProcess::start().map_err(|error| {
            error!("no process can be started to compile a grammar in: {error}");
            GrammarError::Busy
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<TrialProcess>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process for trials. Dropping it kills the process.
struct TrialProcess {
    process: Child,
    output: ChildStdout,
    /// The tokens that the process was told last.
    tokens: Option<Arc<Tokens>>,
}

impl TrialProcess {
    fn start() -> io::Result<Self> {
        let mut process = Command::new(EXECUTABLE)
            .arg0("tenon")
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C must not end this process: the server may still need it.
            .process_group(0)
            .spawn()?;
        let output = process.stdout.take();
        let output = output.ok_or_else(|| io::Error::other("it has no standard output"))?;
        Ok(Self {
            process,
            output,
            tokens: None,
        })
    }

    /// The trial itself, or None if its process has ended.
    fn running(mut self) -> Option<Self> {
        matches!(self.process.try_wait(), Ok(None)).then_some(self)
    }

    /// The tokens, or None if the process knows them.
    fn news<'a>(&mut self, tokens: &'a Arc<Tokens>) -> Option<Cow<'a, Tokens>> {
        let is_known = self
            .tokens
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, tokens));
        self.tokens = Some(tokens.clone());
        (!is_known).then_some(Cow::Borrowed(tokens))
    }

    fn ask(&mut self, request: &[u8], limit: Duration) -> Result<CompileReply, NoReply> {
        let deadline = Instant::now() + limit;
        // The process always reads, even while it compiles, so this does not block for long.
        let input = self.process.stdin.as_mut().ok_or(NoReply::Ended)?;
        input.write_all(request).map_err(|_| NoReply::Ended)?;
        let reply = self.read_line(deadline)?;
        serde_json::from_slice(&reply).map_err(|_| NoReply::Ended)
    }

    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>, NoReply> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            self.wait_for_output(deadline)?;
            let mut part = [0; 4096];
            match self.output.read(&mut part) {
                Ok(0) | Err(_) => return Err(NoReply::Ended),
                Ok(bytes) => line.extend_from_slice(&part[..bytes]),
            }
        }
        Ok(line)
    }

    fn wait_for_output(&self, deadline: Instant) -> Result<(), NoReply> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // The configuration's limits fit into this type.
            let left = left.try_into().map_err(|_| NoReply::Late)?;
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(NoReply::Late),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(NoReply::Ended),
            }
        }
    }
}

impl Drop for TrialProcess {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tokens {
    /// The tokens of a vocabulary.
    pub fn of(trie: &TokTrie) -> Self {
        let count = trie.vocab_size() as u32;
        let control = (0..count).filter_map(|token| {
            let bytes = trie.token(token);
            let is_control = bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
            is_control.then(|| (token, bytes.to_vec()))
        });
        Self {
            count,
            control: control.collect(),
        }
    }
}
