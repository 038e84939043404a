//! The state of a file, by which changes are noticed.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Differs after a file was written to, or after another file has taken its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileState {
    /// The current state. None if the file cannot be inspected.
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}
