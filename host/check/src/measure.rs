//! Figures of this process, from the operating system.

use std::{
    fs, io,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{Event, Metadata, Subscriber, span};

/// A number in a file of `/proc/self` whose lines are `name: number …`. 0 if it is not there.
fn number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let word = value.and_then(|value| value.trim_start_matches(':').split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Resident memory of the process in bytes.
pub fn resident_bytes() -> u64 {
    number("/proc/self/status", "VmRSS") * 1024
}

/// Number of threads.
pub fn threads() -> u64 {
    number("/proc/self/status", "Threads")
}

/// Bytes that the process has read with system calls.
pub fn bytes_read() -> u64 {
    number("/proc/self/io", "rchar")
}

/// Gives unused memory of the heap back to the system.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function has no conditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that the process has printed. In a child of the checker, all output goes to one file.
pub fn printed_bytes() -> u64 {
    let file = io::stderr().as_fd().try_clone_to_owned();
    let meta = file.and_then(|file| fs::File::from(file).metadata());
    meta.map_or(0, |meta| meta.len())
}

/// Number of lines that the plugin has logged.
pub fn logged_lines() -> u64 {
    LOGGED.load(Ordering::Relaxed)
}

static LOGGED: AtomicU64 = AtomicU64::new(0);

/// Counts what plugins log.
pub struct LogCounter;

impl Subscriber for LogCounter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn event(&self, _event: &Event<'_>) {
        LOGGED.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}
