//! The log, on the standard error output: lines for people, or JSON if configured.
//!
//! No request waits for the log. Lines go through a queue to a thread that writes them. Text that libraries write to the
//! standard outputs by themselves goes through the same queue. Lines that find no room in the queue or cannot be written are
//! lost and counted. The last problems are kept for the status page.

mod queue;
mod recent;
mod stderr;
mod worker;

use std::{
    io::{self, IsTerminal, Write},
    panic,
    sync::OnceLock,
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use self::{
    queue::LogQueue,
    recent::Recent,
    stderr::StderrRelay,
    worker::{LastError, Marked},
};
pub use self::{
    queue::lost_lines,
    recent::{Problem, recent_problems},
    worker::FromWorker,
};
use crate::config::LogFormat;

/// The time that the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    queue: LogQueue,
    relay: Option<StderrRelay>,
}

/// Starts the log. The environment variable `TENON_LOG` filters it, in the syntax of `tracing`: `debug`,
/// `tenon=debug,plugin=warn`.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let is_terminal = io::stderr().is_terminal();
    let output = stderr::duplicate()?;
    let queue = LogQueue::start(output.try_clone()?)?;
    let writer = queue.clone();
    subscribe(format, is_terminal, None, move || writer.clone())?;
    // At a terminal, output is not relayed: a person there wants to see progress, and a crash as it happens.
    let relay = match is_terminal {
        true => None,
        false => Some(StderrRelay::start(output)?),
    };
    log_panics();
    // The log is started only once.
    let _ = LOG.set(Log { queue, relay });
    Ok(())
}

fn subscribe<W: Write + 'static>(
    format: LogFormat,
    is_terminal: bool,
    last_error: Option<LastError>,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_env_var("TENON_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()?;
    let log = fmt::layer().with_writer(writer).log_internal_errors(false);
    // The log comes last, so that a problem is on the status page before it can be read in the log.
    let layers = registry().with(filter).with(Recent).with(last_error);
    match format {
        LogFormat::Json => layers.with(log.json()).init(),
        LogFormat::Text => layers
            .with(log.with_ansi(is_terminal).with_target(false))
            .init(),
    }
    Ok(())
}

fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        tracing::error!("thread {}", described(panic))
    }));
}

/// Starts the log of a worker, whose standard error output is read by the server ([`FromWorker`]). Its lines are marked, so that
/// the server can tell them from what libraries print.
pub fn start_in_worker(format: LogFormat) -> anyhow::Result<()> {
    let queue = LogQueue::start(stderr::duplicate()?)?;
    let writer = Marked(queue.clone());
    let last_error = LastError(stderr::duplicate()?);
    subscribe(format, false, Some(last_error), move || writer.clone())?;
    stderr::wait_before_abort()?;
    log_panics();
    // The log is started only once.
    let _ = LOG.set(Log { queue, relay: None });
    Ok(())
}

/// Writes a line to the log as it is.
pub fn relay(line: &[u8]) {
    if let Some(log) = LOG.get() {
        // The queue takes lines without waiting, and counts the lines that it loses.
        let _ = log.queue.clone().write(line);
    }
}

/// Waits until all log lines are written, at most half a second.
pub fn flush() {
    let Some(log) = LOG.get() else {
        return;
    };
    let pause = Duration::from_millis(1);
    let is_done = || log.queue.is_empty() && log.relay.as_ref().is_none_or(StderrRelay::is_empty);
    for _ in 0..LAST_LINES.as_millis() {
        if is_done() {
            return;
        }
        thread::sleep(pause);
    }
}

/// Writes why the program ends, to the standard error output that it was started with.
pub fn last_words(text: &str) {
    flush();
    let relay = LOG.get().and_then(|log| log.relay.as_ref());
    stderr::write_if_possible(relay, text);
}

fn described(panic: &panic::PanicHookInfo<'_>) -> String {
    let current = thread::current();
    format!("'{}' {panic}", current.name().unwrap_or("unnamed"))
}
