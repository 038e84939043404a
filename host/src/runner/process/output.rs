//! The output of a worker: its log lines, and the text that its plugin and C libraries print.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::ChildStderr,
};

use crate::{
    plugin::probe::illegal,
    telemetry::{self, FromWorker},
    text::shortened,
};

/// Most bytes of a line. The rest becomes the next line.
const MAX_LINE: u64 = 4096;
/// A line that was printed longer ago says nothing about why the worker ended.
const RECENT: Duration = Duration::from_secs(3);

/// The last line that was printed, or the last error that was logged. Clones share it.
#[derive(Clone, Default)]
pub struct LastLine(Arc<Mutex<Option<(Instant, String)>>>);

impl LastLine {
    fn set(&self, line: &str) {
        *self.lock() = Some((Instant::now(), line.to_owned()));
    }

    /// The last line, if it was printed just now.
    pub fn recent(&self) -> Option<String> {
        let (printed, line) = self.lock().take()?;
        (printed.elapsed() < RECENT).then_some(line)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes a worker's lines to the log of this process until the worker ends.
pub async fn relay(output: Option<ChildStderr>, model: String, last: LastLine) {
    let Some(output) = output else {
        return;
    };
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut lines)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .await
    {
        match FromWorker::of(&line) {
            FromWorker::Logged(line) => telemetry::relay(line),
            FromWorker::Error(message) => last.set(&message),
            FromWorker::Printed => log_printed(&line, &model, &last),
        }
        line.clear();
    }
}

fn log_printed(line: &[u8], model: &str, last: &LastLine) {
    let text = match illegal::reason_in(line) {
        Some(reason) => format!("its plugin {reason}").into(),
        None => String::from_utf8_lossy(line),
    };
    let text = shortened(text.trim_end(), MAX_LINE as usize);
    if !text.is_empty() {
        tracing::info!(target: "output", model, "{text}");
        last.set(&text);
    }
}
