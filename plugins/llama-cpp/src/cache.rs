//! A cache of files that can be made again. They stay between runs, are shared by processes, and are limited in total size.
//!
//! A file is written as `NAME.part` under a lock that ends with the process. It gets its name when it is complete and on
//! disk. So a file with a name is always complete, and a part that nobody has locked was left by a process that died.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, SystemTime},
};

use tenon_plugin_api::{Code, Error, Result};

/// How often to check whether another process has finished a file.
const POLL: Duration = Duration::from_millis(50);
const PART: &str = "part";

/// A directory of cached files.
pub struct Cache {
    directory: PathBuf,
    max_bytes: u64,
}

impl Cache {
    pub fn new(directory: PathBuf, max_bytes: u64) -> Self {
        Self {
            directory,
            max_bytes,
        }
    }

    /// The file of this name. If there is none yet, `make` writes about `bytes` bytes to the path that it gets. While
    /// another process writes the file, `wait` is called; its error ends the waiting.
    ///
    /// # Errors
    /// Those of `make` and `wait`; `IO`, also if the disk has too little space.
    pub fn get(
        &self,
        name: &str,
        bytes: u64,
        wait: impl Fn() -> Result<()>,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir_all(&self.directory).map_err(|error| Error::io(&self.directory, &error))?;
        self.remove_left_over();
        if is_there_and_used(&path) {
            return Ok(path);
        }
        let part = PartFile::claim(&path, wait)?;
        if is_there_and_used(&path) {
            return Ok(path);
        }
        self.make_room(bytes)?;
        make(&part.path)?;
        part.finish(&path)?;
        Ok(path)
    }

    /// Removes the parts of processes that died.
    fn remove_left_over(&self) {
        for path in self.files(PART).into_iter().map(|(path, _)| path) {
            // Another process may have removed it first.
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if file.try_lock().is_ok() && is_at(&file, &path) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Removes the least recently used files until another `bytes` fit within the limit and on the disk.
    fn make_room(&self, bytes: u64) -> Result<()> {
        let mut files = self.files("gguf");
        let last_use = |(_, metadata): &(PathBuf, fs::Metadata)| metadata.modified().ok();
        files.sort_by_key(|file| std::cmp::Reverse(last_use(file)));
        let mut used: u64 = files.iter().map(|(_, metadata)| metadata.len()).sum();
        loop {
            let free = self.free_bytes()?;
            if used + bytes <= self.max_bytes && bytes <= free {
                return Ok(());
            }
            match files.pop() {
                Some((oldest, metadata)) => {
                    fs::remove_file(&oldest).map_err(|error| Error::io(&oldest, &error))?;
                    used -= metadata.len();
                }
                None if bytes <= free => return Ok(()),
                None => return Err(no_space(&self.directory, bytes, free)),
            }
        }
    }

    fn free_bytes(&self) -> Result<u64> {
        let disk = rustix::fs::statvfs(&self.directory)
            .map_err(|error| Error::io(&self.directory, &error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn files(&self, extension: &str) -> Vec<(PathBuf, fs::Metadata)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let wanted = paths.filter(|path| path.extension().is_some_and(|it| it == extension));
        wanted
            .filter_map(|path| {
                let metadata = path.metadata().ok()?;
                Some((path, metadata))
            })
            .collect()
    }
}

/// A file that is being written. If it is dropped before it is finished, it is removed.
pub struct PartFile {
    file: File,
    pub path: PathBuf,
}

impl PartFile {
    /// Locks the part of `whole`. `wait` as in [`Cache::get`].
    ///
    /// # Errors
    /// `IO`, and those of `wait`.
    pub fn claim(whole: &Path, wait: impl Fn() -> Result<()>) -> Result<Self> {
        let mut path = whole.as_os_str().to_owned();
        path.push(format!(".{PART}"));
        let path = PathBuf::from(path);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| Error::io(&path, &error))?;
            lock(&file, &path, &wait)?;
            // Another process may have finished or removed it during the wait.
            if is_at(&file, &path) {
                return Ok(Self { file, path });
            }
        }
    }

    /// Writes the file to the disk and gives it its name.
    ///
    /// # Errors
    /// `IO`; the file is then removed.
    pub fn finish(self, whole: &Path) -> Result<()> {
        let named = |directory: &&Path| !directory.as_os_str().is_empty();
        let directory = whole.parent().filter(named).unwrap_or(Path::new("."));
        let finish = || {
            self.file.sync_all()?;
            fs::rename(&self.path, whole)?;
            File::open(directory)?.sync_all()
        };
        finish().map_err(|error: io::Error| Error::io(whole, &error))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // A finished file has another name by now.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(file: &File, path: &Path, wait: &impl Fn() -> Result<()>) -> Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {
                wait()?;
                sleep(POLL);
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(path, &error)),
        }
    }
}

/// Whether the path still names the open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether the file exists. Records the use in its modification time.
fn is_there_and_used(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // If this fails, the file is only removed earlier.
    let _ = file.set_modified(SystemTime::now());
    true
}

fn no_space(directory: &Path, bytes: u64, free: u64) -> Error {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    Error::new(
        Code::IO,
        format!(
            "the quantized file takes {} MB, but the disk of {} has only {} MB free: make room there",
            megabytes(bytes),
            directory.display(),
            megabytes(free)
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn get(cache: &Cache, name: &str, content: &[u8]) -> Result<PathBuf> {
        let bytes = content.len() as u64;
        cache.get(name, bytes, || Ok(()), |path| write(path, content))
    }

    fn write(path: &Path, content: &[u8]) -> Result<()> {
        fs::write(path, content).map_err(|error| Error::io(path, &error))
    }

    fn names(cache: &Cache) -> Vec<String> {
        let entries = fs::read_dir(&cache.directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("new"), 100);
        let path = get(&cache, "a.gguf", b"first").unwrap();
        assert_eq!(get(&cache, "a.gguf", b"again").unwrap(), path);
        assert_eq!(fs::read(path).unwrap(), b"first");
        assert_eq!(names(&cache), ["a.gguf"]);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_could_not_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().into(), 100);
        let failed = |path: &Path| {
            write(path, b"hal")?;
            Err(Error::invalid("it broke"))
        };
        let error = cache.get("a.gguf", 5, || Ok(()), failed).unwrap_err();
        assert_eq!(error.message, "it broke");
        assert!(names(&cache).is_empty());
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_never_used() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().into(), 100);
        fs::write(directory.path().join("a.gguf.part"), "half of a").unwrap();
        fs::write(directory.path().join("b.gguf.part"), "half of b").unwrap();
        let path = get(&cache, "a.gguf", b"whole").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
        assert_eq!(names(&cache), ["a.gguf"]);
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_new_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().into(), 10);
        for (age, name) in [(30, "a.gguf"), (20, "b.gguf"), (10, "c.gguf")] {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_len(3).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        get(&cache, "a.gguf", b"").unwrap();
        get(&cache, "d.gguf", b"1234").unwrap();
        assert_eq!(names(&cache), ["a.gguf", "c.gguf", "d.gguf"]);
        get(&cache, "huge.gguf", b"more than fits").unwrap();
        assert_eq!(names(&cache), ["huge.gguf"]);
    }

    #[test]
    fn too_small_a_disk_is_told_before_writing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().into(), u64::MAX);
        let make = |_: &Path| panic!("nothing may be written");
        let error = cache.get("a.gguf", 1 << 60, || Ok(()), make).unwrap_err();
        assert_eq!(error.code, Code::IO);
        assert!(error.message.contains("make room"), "{error}");
    }

    #[test]
    fn whoever_comes_second_waits_for_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let cache = || Cache::new(directory.path().into(), 100);
        let (waits, waiting) = mpsc::channel();
        std::thread::scope(|scope| {
            let (cache, second) = (cache(), cache());
            let make = |path: &Path| {
                scope.spawn(move || {
                    let wait = || {
                        let _ = waits.send(());
                        Ok(())
                    };
                    let make = |_: &Path| panic!("the first one makes it");
                    second.get("a.gguf", 5, wait, make).unwrap();
                });
                waiting.recv().unwrap();
                write(path, b"whole")
            };
            cache.get("a.gguf", 5, || Ok(()), make).unwrap();
        });
    }

    #[test]
    fn waiting_can_be_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().into(), 100);
        let _busy = PartFile::claim(&directory.path().join("a.gguf"), || Ok(())).unwrap();
        let wait = || Err(Error::new(Code::CANCELLED, "enough"));
        let error = cache.get("a.gguf", 5, wait, |_| Ok(())).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED);
    }
}
