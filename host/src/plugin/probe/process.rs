//! A child process that the host can end, whatever the library in it does.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::Path,
    process::{self, ExitStatus},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::messages::{TrialMessage, TrialRequest};
use crate::plugin::child;

/// The argument that makes a child a trial.
const TRIAL: &str = "--trial";

/// A running child. It leads its own process group.
pub struct Child {
    process: process::Child,
    messages: UnixStream,
    output: UnixStream,
}

/// How a child ended.
pub struct ChildEnd {
    pub pid: u32,
    /// None: the process still exists, in a system call that does not return.
    pub status: Option<ExitStatus>,
    /// Whether the host ended the child because it sent no message for too long.
    pub timed_out: bool,
    /// The end of what the child printed.
    pub output: String,
}

/// Most bytes of messages that are read from a child, and most bytes that are kept of its output.
const MAX_TOLD_BYTES: u64 = 1 << 20;
const MAX_OUTPUT_BYTES: usize = 16 << 10;
/// Time that the kernel gets to end a killed process.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

impl Child {
    /// Starts a child. It may take up to `timeout` for each message.
    pub fn start(
        executable: &Path,
        library: &File,
        request: &TrialRequest,
        timeout: Duration,
    ) -> io::Result<Self> {
        let (messages, their_messages) = UnixStream::pair()?;
        messages.set_read_timeout(Some(timeout))?;
        messages.set_write_timeout(Some(timeout))?;
        let (output, their_output) = UnixStream::pair()?;
        let process = child::command(executable, library.try_clone()?, their_messages)
            .arg(TRIAL)
            .stderr(OwnedFd::from(their_output))
            .spawn()?;
        let mut child = Self {
            process,
            messages,
            output,
        };
        // A child that does not read the request fails like any other.
        let _ = child.send(request);
        Ok(child)
    }

    /// Passes messages to `take` until the child closes the socket or sends nothing for too long. Then ends the child.
    pub fn listen(self, take: impl FnMut(TrialMessage)) -> ChildEnd {
        let Self {
            mut process,
            messages,
            output,
        } = self;
        let (timed_out, printed) = thread::scope(|scope| {
            let printed = scope.spawn(|| last_output(&output));
            let timed_out = pass_on(&messages, take);
            kill(&mut process);
            // This ends the reading thread, even if another process holds the other end of the socket.
            let _ = output.shutdown(Shutdown::Both);
            (timed_out, printed.join().unwrap_or_default())
        });
        let pid = process.id();
        let status = reap(process);
        let killed = status.is_none_or(|status| status.signal() == Some(libc::SIGKILL));
        ChildEnd {
            pid,
            status,
            timed_out: timed_out && killed,
            output: printed,
        }
    }

    fn send(&mut self, request: &TrialRequest) -> io::Result<()> {
        self.messages.write_all(&serde_json::to_vec(request)?)?;
        self.messages.write_all(b"\n")
    }
}

impl ChildEnd {
    /// The signal that ended the child.
    pub fn signal(&self) -> Option<i32> {
        self.status?.signal()
    }

    /// Whether the child ended because an allocation failed, as far as the runtimes of Rust and C++ say so before they abort.
    pub fn lacked_memory(&self) -> bool {
        let says = |text| self.output.contains(text);
        self.signal() == Some(libc::SIGABRT)
            && (says("memory allocation of ") || says("std::bad_alloc"))
    }
}

/// Passes messages on. True if it ended because the child took too long.
fn pass_on(messages: &UnixStream, mut take: impl FnMut(TrialMessage)) -> bool {
    for line in BufReader::new(messages.take(MAX_TOLD_BYTES)).lines() {
        match line.map(|line| serde_json::from_str(&line)) {
            Ok(Ok(message)) => take(message),
            // The last line of a child that ended while writing it.
            Ok(Err(_)) => return false,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    false
}

/// Kills the child and its group separately, because it may have left the group. Its id is not reused before it is reaped.
fn kill(process: &mut process::Child) {
    let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    // An error means that the group has no process left.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    let _ = process.kill();
}

/// Reads until the socket is shut down, so that no process that prints is blocked. Returns the end of the output.
fn last_output(mut socket: &UnixStream) -> String {
    let mut output = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(len @ 1..) = socket.read(&mut chunk) {
        output.extend_from_slice(&chunk[..len]);
        let too_many = output.len().saturating_sub(MAX_OUTPUT_BYTES);
        output.drain(..too_many);
    }
    String::from_utf8_lossy(&output).into_owned()
}

/// Waits for a killed process, up to `KILL_PATIENCE`.
fn reap(mut process: process::Child) -> Option<ExitStatus> {
    let (sender, status) = channel();
    let wait = move || sender.send(process.wait());
    thread::Builder::new().spawn(wait).ok()?;
    status.recv_timeout(KILL_PATIENCE).ok()?.ok()
}
