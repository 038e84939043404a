//! A relay from the standard outputs of the process to the log.
//!
//! Libraries write to the standard outputs by themselves: a plugin's panics, assertions of C and C++, warnings of a driver.
//! If an output is a pipe that nobody reads, a write would block them; if it cannot be written, some would panic. So both
//! outputs become a pipe to this process, which turns the lines that arrive into log lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    os::fd::{AsFd, OwnedFd},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{fcntl_dupfd_cloexec, ioctl_fionread},
    pipe::{PipeFlags, pipe_with},
    stdio::{dup2_stderr, dup2_stdout, stderr},
};

use crate::text::shortened;

/// Most bytes of a relayed line. The rest becomes the next line.
const MAX_LINE: u64 = 4096;
/// The time that an aborting process waits for its last words to be written.
const LAST_WORDS: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// The time that the end of the program waits for room to write why it ends.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// The pipe that has replaced the standard outputs.
pub struct StderrRelay {
    /// The original standard error output.
    output: File,
    /// The reading end of the pipe.
    pipe: File,
}

/// Duplicates the current standard error output.
pub fn duplicate() -> io::Result<File> {
    let output: OwnedFd = fcntl_dupfd_cloexec(stderr(), 3)?;
    Ok(output.into())
}

impl StderrRelay {
    /// Begins to log what is written to the standard outputs. `output` is a duplicate of the standard error output.
    pub fn start(output: File) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipe = File::from(reader);
        let lines = BufReader::new(pipe.try_clone()?);
        let thread = thread::Builder::new().name("stderr".to_owned());
        thread.spawn(move || log_lines(lines))?;
        dup2_stderr(&writer)?;
        // The server itself writes nothing to the standard output, but libraries may.
        if !io::stdout().is_terminal() {
            dup2_stdout(&writer)?;
        }
        wait_before_abort()?;
        Ok(Self { output, pipe })
    }

    /// Whether everything that was written has been read.
    pub fn is_empty(&self) -> bool {
        ioctl_fionread(&self.pipe).is_ok_and(|bytes| bytes == 0)
    }
}

/// Writes a line to the original standard error output. Waits at most half a second for room.
pub fn write_if_possible(relay: Option<&StderrRelay>, text: &str) {
    let line = format!("{text}\n");
    match relay {
        None => write_soon(&mut io::stderr(), &line),
        Some(relay) => write_soon(&mut &relay.output, &line),
    }
}

fn write_soon(output: &mut (impl Write + AsFd), line: &str) {
    let is_ready = poll(
        &mut [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::OUT)],
        Some(&PATIENCE),
    );
    if is_ready.is_ok_and(|ready| ready > 0) {
        // No output is left for the error.
        let _ = output.write_all(line.as_bytes());
    }
}

fn log_lines(mut lines: BufReader<File>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            // This process holds the writing end, so an end of the pipe is not expected.
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = shortened(text.trim_end(), MAX_LINE as usize);
                if !text.is_empty() {
                    tracing::info!(target: "output", "{text}");
                }
            }
        }
    }
}

/// Makes `abort` wait a moment, so that what assertions and failed allocations wrote before is logged.
pub fn wait_before_abort() -> io::Result<()> {
    extern "C" fn wait(_signal: libc::c_int) {
        // SAFETY: `nanosleep` may be called in a signal handler, and the time is a constant.
        unsafe { libc::nanosleep(&LAST_WORDS, std::ptr::null_mut()) };
    }
    // SAFETY: all-zero bytes are a valid `sigaction`, which consists of numbers and signal sets.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = wait as *const () as usize;
    // After the handler, the signal ends the process as by default.
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the handler only calls a function that signal handlers may call.
    match unsafe { libc::sigaction(libc::SIGABRT, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
