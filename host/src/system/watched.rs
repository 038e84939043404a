//! Notices changes in folders.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, sleep},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
    recommended_watcher,
};

/// Folders that are watched.
pub struct Watched<F> {
    folders: F,
    watcher: RecommendedWatcher,
    /// Gets at least one message after the last change.
    events: Receiver<()>,
    waker: Waker,
}

/// Wakes the thread that waits for a change, as if there had been one.
#[derive(Clone)]
pub struct Waker(SyncSender<()>);

/// The time for which nothing may change before a change counts as complete. Programs that copy a file write more often.
pub const REST: Duration = Duration::from_millis(300);

impl<F: Fn() -> Vec<PathBuf>> Watched<F> {
    /// Watches the entries of these folders from now on. `folders` is called again after each change, so that new ones are watched.
    ///
    /// # Errors
    /// The system does not watch them, for example because its limit of watches is reached.
    pub fn new(folders: F) -> notify::Result<Self> {
        let (sender, events) = sync_channel(1);
        let waker = Waker(sender);
        let of_watcher = waker.clone();
        let mut watcher = recommended_watcher(move |event| {
            if is_change(&event) {
                of_watcher.wake();
            }
        })?;
        watch(&mut watcher, &folders())?;
        Ok(Self {
            folders,
            watcher,
            events,
            waker,
        })
    }

    /// A handle that wakes the waiting thread, for example because there are other folders.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Calls `act` after each change, with what `look` then sees, in a thread of this name that never ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn follow<T: PartialEq>(
        mut self,
        thread_name: &str,
        mut look: impl FnMut() -> T + Send + 'static,
        mut act: impl FnMut(T) + Send + 'static,
    ) -> io::Result<()>
    where
        F: Send + 'static,
    {
        let follow = move || {
            loop {
                act(self.wait(&mut look));
            }
        };
        let thread = thread::Builder::new().name(thread_name.to_owned());
        thread.spawn(follow).map(drop)
    }

    /// Waits for a change, and then until two looks in a row, with a moment between them, see the same. Returns what they saw.
    /// Blocks.
    pub fn wait<T: PartialEq>(&mut self, mut look: impl FnMut() -> T) -> T {
        let Self {
            folders,
            watcher,
            events,
            ..
        } = self;
        // It cannot fail: `self` has a sender, the waker.
        let _ = events.recv();
        let look = || {
            while events.try_recv().is_ok() {}
            if let Err(error) = watch(watcher, &folders()) {
                tracing::warn!("a folder is not watched any more: {error}");
            }
            look()
        };
        until_same(look, || sleep(REST))
    }
}

impl Waker {
    /// Ends the current wait, or else the next one.
    pub fn wake(&self) {
        // If the channel is full, there is a message to be received.
        let _ = self.0.try_send(());
    }
}

/// The folder, or its nearest ancestor while it is missing: a change there shows when the folder is made.
pub fn nearest(folder: &Path) -> Option<PathBuf> {
    // The last ancestor of a relative path is empty.
    let mut paths = folder.ancestors().map(|path| Path::new(".").join(path));
    paths.find(|path| path.is_dir())
}

/// Looks until two looks in a row, with a pause between them, see the same.
fn until_same<T: PartialEq>(mut look: impl FnMut() -> T, mut pause: impl FnMut()) -> T {
    let mut seen = look();
    loop {
        pause();
        let now = look();
        if now == seen {
            return now;
        }
        seen = now;
    }
}

/// Watches folders. Watching one again changes nothing.
fn watch(watcher: &mut RecommendedWatcher, folders: &[PathBuf]) -> notify::Result<()> {
    let mut folders = folders.iter();
    folders.try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive))
}

/// Whether an event may mean a change. Opening and reading a file change nothing. After an error, events may be missing.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks after how many looks files count as complete.
    #[track_caller]
    fn check(seen: &[u32], looks: usize) {
        let mut left = seen.iter().copied();
        let last = until_same(|| left.next().unwrap(), || ());
        assert_eq!(seen.len() - left.len(), looks);
        assert_eq!(last, seen[looks - 1]);
    }

    #[test]
    fn the_nearest_folder_is_one_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        for (folder, expected) in [
            (root.path().to_owned(), root.path()),
            (root.path().join("a/b"), root.path()),
            (PathBuf::from("missing/folder"), Path::new(".")),
            (PathBuf::new(), Path::new(".")),
        ] {
            assert_eq!(nearest(&folder).unwrap(), expected);
        }
    }

    #[test]
    fn who_waits_can_be_woken() {
        let mut watched = Watched::new(Vec::new).unwrap();
        watched.waker().wake();
        assert_eq!(watched.wait(|| 7), 7);
    }

    #[test]
    fn a_file_that_grows_is_waited_for() {
        check(&[7, 7, 8], 2);
        check(&[1, 2, 3, 3, 4], 4);
        check(&[1, 2, 1, 1], 4);
    }
}
