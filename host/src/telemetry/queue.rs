//! The queue of log lines, and the thread that writes them.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, poll};
use tracing::warn;

/// Most lines that wait to be written.
const CAPACITY: usize = 8192;

static LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    let (name, help) = (
        "tenon_log_lines_lost_total",
        "Log lines that could not be written",
    );
    // The name is a valid name of a Prometheus metric.
    IntCounter::new(name, help).expect("a valid name")
});

/// The number of lost lines: those without room in the queue, and those that could not be written.
pub fn lost_lines() -> &'static IntCounter {
    &LOST
}

/// The queue's sending end, which never waits. A clone puts lines into the same queue.
#[derive(Clone)]
pub struct LogQueue {
    lines: SyncSender<Vec<u8>>,
    /// The number of lines that are not written yet.
    waiting: Arc<AtomicUsize>,
}

impl LogQueue {
    /// Starts the thread that writes lines to `output`.
    pub fn start(output: File) -> io::Result<Self> {
        let (lines, inbox) = sync_channel(CAPACITY);
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = waiting.clone();
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || write_lines(&inbox, output, &written))?;
        Ok(Self { lines, waiting })
    }

    /// Whether every line is written or lost.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }
}

/// Each call of `write` is one line.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            LOST.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(inbox: &Receiver<Vec<u8>>, mut output: File, waiting: &AtomicUsize) {
    let mut told = 0;
    for line in inbox {
        match write_whole(&mut output, &line) {
            Ok(()) => tell_of_lost_lines(&mut told),
            Err(_) => LOST.inc(),
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Logs how many lines were lost since the last time. Called when lines can be written again.
fn tell_of_lost_lines(told: &mut u64) {
    let lost = LOST.get();
    if lost > *told {
        warn!(
            "{} log lines were lost: they could not be written, or not as fast as they came",
            lost - *told
        );
        *told = lost;
    }
}

fn write_whole(output: &mut File, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match output.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process may have set the shared output to non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&*output, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
