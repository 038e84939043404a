//! Notices changes in the plugin directories.

use std::path::{Path, PathBuf};

use super::{
    cpu::CpuLevel,
    discover::{LibraryBuilds, discover},
};
use crate::system::watched::{Watched, nearest};

/// Changes in plugin directories.
pub struct Changes {
    directories: Vec<PathBuf>,
    watched: Watched<Folders>,
}

/// Lists the folders in which plugin files are or may appear.
type Folders = Box<dyn Fn() -> Vec<PathBuf> + Send>;

impl Changes {
    /// Changes in these directories and their folders for CPU levels, from now on. A directory may be missing so far.
    ///
    /// # Errors
    /// The system does not watch them, for example because it watches as many as it may.
    pub fn of(directories: &[PathBuf]) -> notify::Result<Self> {
        let directories = directories.to_vec();
        let of_all = directories.clone();
        let folders: Folders =
            Box::new(move || of_all.iter().flat_map(|path| folders(path)).collect());
        Ok(Self {
            directories,
            watched: Watched::new(folders)?,
        })
    }

    /// Waits for a change, and then until all plugin files have stayed as they are for a moment. Blocks.
    pub fn wait(&mut self) {
        let look = || -> Vec<LibraryBuilds> { discover(&self.directories).libraries };
        self.watched.wait(look);
    }
}

/// A plugin directory and its folders for CPU levels. For a missing directory, the folder in which it would be made.
fn folders(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let levels = CpuLevel::ALL.iter();
    let levels = levels.map(|level| directory.join(level.name()));
    let levels = levels.filter(|folder| folder.is_dir());
    nearest(directory).into_iter().chain(levels)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
        sync::mpsc::{Receiver, channel},
        thread::spawn,
        time::Duration,
    };

    use super::*;
    use crate::system::watched::REST;

    /// Long enough for a change to be seen.
    const PATIENCE: Duration = Duration::from_secs(20);

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
