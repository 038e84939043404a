//! The cache: directories laid out as `huggingface_hub` in Python does.
//!
//! ```text
//! models--OWNER--REPO/blobs/ETAG                  the content of a file, by its hash
//! models--OWNER--REPO/snapshots/COMMIT/DIR/FILE   links to the contents, as the files are called in a commit
//! models--OWNER--REPO/refs/REVISION               the commit that a branch or tag had last
//! .locks/models--OWNER--REPO/ETAG.lock            locked by the program that fetches the content
//! ```

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process,
};

use tenon::hub::HubModel;

use crate::Selection;

const PREFIX: &str = "models--";
/// Replaces the slash in the name of a repository.
const SLASH: &str = "--";

/// The cache on this machine.
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in this directory, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory, for messages.
    pub fn place(&self) -> impl std::fmt::Display {
        self.root.display()
    }

    /// The cached part of a repository, `OWNER/REPO`.
    pub fn repository(&self, name: &str) -> Repository {
        let folder = format!("{PREFIX}{}", name.replace('/', SLASH));
        Repository {
            name: name.to_owned(),
            root: self.root.join(&folder),
            locks: self.root.join(".locks").join(folder),
        }
    }

    /// Every repository, by name.
    pub fn repositories(&self) -> Vec<Repository> {
        let names = entries(&self.root).filter_map(|name| {
            let name = name.strip_prefix(PREFIX)?;
            Some(name.replacen(SLASH, "/", 1))
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.iter().map(|name| self.repository(name)).collect()
    }

    /// The model's file or directory.
    ///
    /// # Errors
    /// Says what is missing. The text continues a sentence after a colon.
    pub fn find(&self, model: &HubModel) -> Result<PathBuf, String> {
        let (repository, revision) = (self.repository(&model.repository), model.revision());
        let commit = repository.commit(revision);
        let commit = commit.ok_or_else(|| format!("nothing was fetched of its {revision}"))?;
        let files = repository.files(&commit);
        let selection = Selection::of(files.iter().map(String::as_str), model.which.as_deref())?;
        Ok(selection.path_in(&repository.snapshot(&commit)))
    }
}

/// The cached part of one repository.
pub struct Repository {
    /// `OWNER/REPO`.
    pub name: String,
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// Makes the directories of the repository.
    pub fn make(&self) -> io::Result<()> {
        for folder in ["blobs", "refs", "snapshots"] {
            fs::create_dir_all(self.root.join(folder))?;
        }
        fs::create_dir_all(&self.locks)
    }

    /// The directories that hold everything of the repository.
    pub fn folders(&self) -> [&Path; 2] {
        [&self.root, &self.locks]
    }

    /// The directory with the files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The file with the content of this hash.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// The file with the part of this content that has arrived so far.
    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The file that a program locks while it fetches this content.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Whether this content is there, with the right size.
    pub fn has(&self, etag: &str, size: u64) -> bool {
        len(&self.blob(etag)) == Some(size)
    }

    /// Bytes of this content that are still to be fetched.
    pub fn missing_bytes(&self, etag: &str, size: u64) -> u64 {
        match self.has(etag, size) {
            true => 0,
            false => size.saturating_sub(len(&self.incomplete(etag)).unwrap_or_default()),
        }
    }

    /// The commits of which files are in the cache, each with the branch or tag that pointed to it last, if one did.
    pub fn commits(&self) -> Vec<(String, Option<String>)> {
        let references = files_below(&self.root.join("refs"));
        let reference_of = |commit: &String| {
            let mut names = references.iter();
            let found = names.find(|name| self.commit(name).as_ref() == Some(commit));
            found.cloned()
        };
        let mut commits: Vec<String> = entries(&self.root.join("snapshots")).collect();
        commits.sort();
        let with_reference = commits.into_iter().map(|commit| {
            let reference = reference_of(&commit);
            (commit, reference)
        });
        with_reference.collect()
    }

    /// The commit that a branch, tag or commit stands for. None if nothing of it was fetched.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let reference = fs::read_to_string(self.root.join("refs").join(revision));
        let commit = reference.map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
        self.snapshot(&commit).is_dir().then_some(commit)
    }

    /// Records the commit of a branch or tag.
    pub fn set_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        make_atomically(&path, |path| fs::write(path, commit))
    }

    /// The names of a commit's files whose contents are there.
    pub fn files(&self, commit: &str) -> Vec<String> {
        files_below(&self.snapshot(commit))
    }

    /// Gives a content its name in a commit.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> io::Result<()> {
        let path = self.snapshot(commit).join(name);
        let up = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        match fs::read_link(&path) {
            Ok(now) if now == target => Ok(()),
            _ => make_atomically(&path, |path| symlink(&target, path)),
        }
    }
}

/// Makes a file under a temporary name and renames it, so that no program sees it half written.
fn make_atomically(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", process::id()));
    let temporary = path.with_file_name(name);
    make(&temporary)?;
    fs::rename(&temporary, path)
}

fn len(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.len())
}

/// The names in a directory. Empty if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The files in a directory and in the directories below it, as relative paths, sorted. Links whose target is gone do not count.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for name in entries(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            files.extend(
                files_below(&path)
                    .iter()
                    .map(|inner| format!("{name}/{inner}")),
            );
        } else if path.is_file() {
            files.push(name);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn model(text: &str) -> HubModel {
        text.parse().unwrap()
    }

    #[test]
    fn a_model_is_found_once_all_of_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let wanted = model("hf:a/b:Q8_0");
        assert!(
            cache
                .find(&wanted)
                .unwrap_err()
                .contains("nothing was fetched")
        );
        let repository = cache.repository("a/b");
        repository.make().unwrap();
        for (number, etag) in [(1, "one"), (2, "two")] {
            let name = format!("Q8_0/m-0000{number}-of-00002.gguf");
            repository.link(COMMIT, &name, etag).unwrap();
            repository.set_commit("main", COMMIT).unwrap();
            assert!(cache.find(&wanted).is_err(), "{etag} is a link to nothing");
            fs::write(repository.blob(etag), etag).unwrap();
        }
        let path = cache.find(&wanted).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(
            cache
                .find(&model(&format!("hf:a/b@{COMMIT}:Q8_0")))
                .unwrap(),
            path
        );
        assert!(cache.find(&model("hf:a/b@other:Q8_0")).is_err());
        assert_eq!(cache.repositories()[0].name, "a/b");
        assert_eq!(
            repository.commits(),
            [(COMMIT.to_owned(), Some("main".to_owned()))]
        );
    }

    #[test]
    fn a_content_of_another_size_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Cache::new(folder.path().to_owned()).repository("a/b");
        repository.make().unwrap();
        assert_eq!(repository.missing_bytes("e", 10), 10);
        fs::write(repository.incomplete("e"), "1234").unwrap();
        assert_eq!(repository.missing_bytes("e", 10), 6);
        fs::write(repository.blob("e"), "123456789").unwrap();
        assert_eq!(repository.missing_bytes("e", 10), 6);
        fs::write(repository.blob("e"), "1234567890").unwrap();
        assert_eq!(repository.missing_bytes("e", 10), 0);
    }
}
