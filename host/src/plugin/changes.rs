//! Notices changes in the plugin directories.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, sync_channel},
    thread::sleep,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
    recommended_watcher,
};

use super::{
    cpu::Level,
    discover::{Library, discover},
};

/// Changes in plugin directories.
pub struct Changes {
    directories: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    /// Gets at least one message after the last change.
    events: Receiver<()>,
}

/// The time for which all files must stay as they are. Programs that copy a file write more often.
const REST: Duration = Duration::from_millis(300);

impl Changes {
    /// Changes in these directories and their folders for CPU levels, from now on. A directory may be missing so far.
    ///
    /// # Errors
    /// The system does not watch them, for example because it watches as many as it may.
    pub fn of(directories: &[PathBuf]) -> notify::Result<Self> {
        let (sender, events) = sync_channel(1);
        let mut watcher = recommended_watcher(move |event| {
            if is_change(&event) {
                // If the channel is full, there is a message to be received.
                let _ = sender.try_send(());
            }
        })?;
        watch(&mut watcher, directories)?;
        Ok(Self {
            directories: directories.to_vec(),
            watcher,
            events,
        })
    }

    /// Waits for a change, and then until all plugin files have stayed as they are for a moment. Blocks.
    pub fn wait(&mut self) {
        let Self {
            directories,
            watcher,
            events,
        } = self;
        // The sender is in the watcher.
        let _ = events.recv();
        let look = || {
            while events.try_recv().is_ok() {}
            look(watcher, directories)
        };
        wait_until_same(look, || sleep(REST));
    }
}

/// Lists the libraries, and watches folders that are new.
fn look(watcher: &mut RecommendedWatcher, directories: &[PathBuf]) -> Vec<Library> {
    if let Err(error) = watch(watcher, directories) {
        tracing::warn!("a plugin directory is not watched any more: {error}");
    }
    discover(directories).libraries
}

/// Looks until two looks in a row, with a pause between them, see the same.
fn wait_until_same<T: PartialEq>(mut look: impl FnMut() -> T, mut pause: impl FnMut()) {
    let mut seen = look();
    loop {
        pause();
        let now = look();
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// Watches all folders in which plugin files are or may appear. Watching one again changes nothing.
fn watch(watcher: &mut RecommendedWatcher, directories: &[PathBuf]) -> notify::Result<()> {
    let mut folders = directories.iter().flat_map(|path| folders(path));
    folders.try_for_each(|folder| watcher.watch(&folder, RecursiveMode::NonRecursive))
}

/// A plugin directory and its folders for CPU levels. Of a missing directory the folder in which it would be made.
fn folders(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let there = directory.ancestors().find(|path| path.is_dir());
    let levels = Level::ALL.iter().map(|level| directory.join(level.name()));
    let levels = levels.filter(|folder| folder.is_dir());
    there.map(Path::to_owned).into_iter().chain(levels)
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
    use std::{
        fs::{self, File},
        io::Write,
        sync::mpsc::{Receiver, channel},
        thread::spawn,
    };

    use super::*;

    /// Long enough for a change to be seen.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The looks after which files count as complete.
    #[track_caller]
    fn check(seen: &[u32], looks: usize) {
        let mut left = seen.iter().copied();
        wait_until_same(|| left.next().unwrap(), || ());
        assert_eq!(seen.len() - left.len(), looks);
    }

    #[test]
    fn a_file_that_grows_is_waited_for() {
        check(&[7, 7, 8], 2);
        check(&[1, 2, 3, 3, 4], 4);
        check(&[1, 2, 1, 1], 4);
    }

    /// Waits for changes in a thread of its own. Each message says how many libraries there are.
    fn watched(directory: PathBuf) -> Receiver<usize> {
        let (sender, changes) = channel();
        let mut watched = Changes::of(&[directory]).unwrap();
        spawn(move || {
            loop {
                watched.wait();
                let found = discover(&watched.directories).libraries.len();
                if sender.send(found).is_err() {
                    return;
                }
            }
        });
        changes
    }

    /// Waits until there are as many libraries as expected.
    #[track_caller]
    fn wait_for(changes: &Receiver<usize>, expected: usize) {
        while changes.recv_timeout(PATIENCE).expect("a change") != expected {}
    }

    #[test]
    fn files_that_appear_and_go_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.so");
        let changes = watched(root.path().into());
        fs::write(&path, "one").unwrap();
        wait_for(&changes, 1);
        fs::write(&path, "another").unwrap();
        wait_for(&changes, 1);
        fs::rename(&path, root.path().join("a.txt")).unwrap();
        wait_for(&changes, 0);
    }

    #[test]
    fn a_directory_that_is_made_later_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("more").join("plugins");
        let changes = watched(directory.clone());
        fs::create_dir_all(&directory).unwrap();
        wait_for(&changes, 0);
        fs::write(directory.join("a.so"), "").unwrap();
        wait_for(&changes, 1);
    }

    #[test]
    fn reading_is_no_change() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.so");
        fs::write(&path, "one").unwrap();
        let changes = watched(root.path().into());
        fs::read(&path).unwrap();
        assert!(changes.recv_timeout(REST * 3).is_err());
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"more")
            .unwrap();
        wait_for(&changes, 1);
    }
}
