//! Runs a case in a process of its own.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write, stderr, stdout},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    stdio::dup2_stdout,
};
use tenon::plugin::{EXECUTABLE, end_with_parent};

use crate::{
    finding::CaseStatus, measure::LogCounter, report::CaseOutcome, subject::Subject, table::Case,
};

/// Most bytes of a child's output that are kept.
const MAX_OUTPUT: u64 = 4 << 10;

/// Runs a case in this process, and writes its status and sentence to the standard output.
///
/// # Errors
/// The process was not started by the checker.
pub fn run_here(case: &Case, subject: &Subject) -> io::Result<()> {
    end_with_parent()?;
    let mut checker = File::from(stdout().as_fd().try_clone_to_owned()?);
    // The plugin's output must not reach the checker's socket.
    dup2_stdout(stderr())?;
    // No other subscriber was set before.
    let _ = tracing::subscriber::set_global_default(LogCounter);
    let told: (CaseStatus, String) = match (case.run)(subject) {
        Ok(sentence) => (CaseStatus::Success, sentence),
        Err(finding) => finding.told_by(case.name),
    };
    checker.write_all(&serde_json::to_vec(&told)?)?;
    // The socket is closed when the process has ended. The checker waits for that, because a plugin may crash at the very end.
    std::mem::forget(checker);
    Ok(())
}

/// Runs a case in a child process, which may take up to `limit`.
///
/// # Errors
/// No child can be started.
pub fn run(case: &'static Case, subject: &Subject, limit: Duration) -> io::Result<CaseOutcome> {
    if case.needs_model && subject.model.is_none() {
        let told = (
            CaseStatus::Skipped,
            "it needs a model: give --model".to_owned(),
        );
        return Ok(CaseOutcome::new(case, told, String::new()));
    }
    let (mut answer, theirs) = UnixStream::pair()?;
    answer.set_read_timeout(Some(limit))?;
    let output = tempfile::tempfile()?;
    let child = start(case, subject, theirs.into(), output.try_clone()?)?;
    let mut text = Vec::new();
    let read = answer.read_to_end(&mut text);
    let timed_out = read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let status = end(child, timed_out)?;
    let told = match timed_out {
        true => (CaseStatus::Failed, too_slow(limit)),
        false => told(&text, status),
    };
    Ok(CaseOutcome::new(case, told, end_of(output)?))
}

fn start(case: &Case, subject: &Subject, answer: OwnedFd, output: File) -> io::Result<Child> {
    let mut command = Command::new(EXECUTABLE);
    command
        .args(["plugins", "check", "--case-in-this-process", case.name])
        .args(["--seed", &subject.seed.to_string()])
        .stdin(Stdio::null())
        .stdout(answer)
        .stderr(output)
        .process_group(0);
    if let Some(model) = &subject.model {
        command.arg("--model").arg(model);
    }
    command.arg("--").arg(&subject.file).spawn()
}

/// Waits for a child, or ends it if it took too long, and ends all processes that it started.
fn end(mut child: Child, timed_out: bool) -> io::Result<ExitStatus> {
    if timed_out {
        child.kill()?;
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let status = child.wait()?;
    // An error means that the group has no process left.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    Ok(status)
}

fn told(text: &[u8], status: ExitStatus) -> (CaseStatus, String) {
    let told = serde_json::from_slice(text);
    match (told, status.signal()) {
        (Ok(told), None) => told,
        (Ok(_), Some(signal)) => crashed(format!("when it ended ({})", name(signal))),
        (Err(_), Some(signal)) => crashed(format!("({})", name(signal))),
        (Err(_), None) => crashed(format!("by itself ({status})")),
    }
}

fn crashed(how: String) -> (CaseStatus, String) {
    let sentence = format!(
        "the process ended {how}, which would end the model's worker: run the case alone in a debugger"
    );
    (CaseStatus::Crashed, sentence)
}

fn name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT, an abort",
        libc::SIGBUS => "SIGBUS, memory behind the end of a file",
        libc::SIGFPE => "SIGFPE, a wrong calculation",
        libc::SIGILL => "SIGILL, an instruction that the CPU lacks",
        libc::SIGSEGV => "SIGSEGV, memory that is not its own",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

fn too_slow(limit: Duration) -> String {
    format!(
        "it was not done after {} seconds: find out what it waits for, take a smaller model, or raise --time-limit",
        limit.as_secs()
    )
}

/// The end of the output.
fn end_of(mut output: File) -> io::Result<String> {
    let len = output.metadata()?.len();
    output.seek(SeekFrom::Start(len.saturating_sub(MAX_OUTPUT)))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
