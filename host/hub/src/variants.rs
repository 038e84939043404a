//! The models in the cache, and their removal.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tenon::hub::HubModel;

use crate::{Cache, Repository, Selection};

/// A model in the cache.
#[derive(Debug, Serialize)]
pub struct CachedModel {
    /// The name that `tenon serve` takes.
    pub name: String,
    /// Its file or directory.
    pub path: PathBuf,
    /// Bytes of all of its files.
    pub size_bytes: u64,
    /// How many files it has.
    pub files: usize,
}

/// The files and directories that the removal of a model removes.
pub struct Removal {
    /// Whole directories.
    folders: Vec<PathBuf>,
    /// Contents of files, and the links to them.
    files: BTreeSet<PathBuf>,
    /// Bytes that the removal frees.
    pub size_bytes: u64,
}

impl Cache {
    /// Every model that is there, by name.
    pub fn models(&self) -> Vec<CachedModel> {
        let repositories = self.repositories();
        repositories.iter().flat_map(models_of).collect()
    }

    /// The removal of a model. Without a quantization or revision it removes all that the cache has of the repository.
    ///
    /// # Errors
    /// The cache does not have the model. The text continues a sentence after a colon.
    pub fn removal(&self, model: &HubModel) -> Result<Removal, String> {
        let repository = self.repository(&model.repository);
        if model.which.is_none() && model.revision.is_none() {
            return whole(&repository);
        }
        let commit = repository.commit(model.revision());
        let commit =
            commit.ok_or_else(|| format!("nothing was fetched of its {}", model.revision()))?;
        let files = repository.files(&commit);
        let names = || files.iter().map(String::as_str);
        let selected = match &model.which {
            Some(which) => Selection::of(names(), Some(which))?.files,
            None => files.clone(),
        };
        let snapshot = repository.snapshot(&commit);
        let blobs = selected
            .iter()
            .filter_map(|name| snapshot.join(name).canonicalize().ok());
        Ok(contents(&repository, blobs.collect()))
    }
}

impl Removal {
    /// Removes the files and directories.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn carry_out(self) -> io::Result<()> {
        for file in self.files {
            fs::remove_file(file)?;
        }
        for folder in self.folders.iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }
}

fn models_of(repository: &Repository) -> Vec<CachedModel> {
    let commits = repository.commits().into_iter();
    let models = commits.flat_map(|(commit, reference)| {
        let files = repository.files(&commit);
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let found = Selection::ggufs(&names)
            .into_iter()
            .chain(Selection::safetensors(&names));
        let revision = reference.unwrap_or_else(|| commit.clone());
        let snapshot = repository.snapshot(&commit);
        let model = |selection: Selection| {
            let name = HubModel {
                repository: repository.name.clone(),
                revision: Some(revision.clone()).filter(|name| name != "main"),
                which: selection.which().map(str::to_owned),
            };
            CachedModel {
                name: name.to_string(),
                path: selection.path_in(&snapshot),
                size_bytes: selection
                    .files
                    .iter()
                    .map(|file| len(&snapshot.join(file)))
                    .sum(),
                files: selection.files.len(),
            }
        };
        found.map(model).collect::<Vec<_>>()
    });
    models.collect()
}

fn whole(repository: &Repository) -> Result<Removal, String> {
    let [root, locks] = repository.folders().map(Path::to_owned);
    if !root.is_dir() {
        return Err("nothing was fetched of it".to_owned());
    }
    let blobs = fs::read_dir(root.join("blobs"))
        .into_iter()
        .flatten()
        .flatten();
    let size_bytes = blobs.map(|blob| len(&blob.path())).sum();
    Ok(Removal {
        folders: vec![root, locks],
        files: BTreeSet::new(),
        size_bytes,
    })
}

/// The removal of these contents, and of every link to them in any commit.
fn contents(repository: &Repository, blobs: BTreeSet<PathBuf>) -> Removal {
    let size_bytes = blobs.iter().map(|blob| len(blob)).sum();
    let mut files = blobs.clone();
    for (commit, _) in repository.commits() {
        let snapshot = repository.snapshot(&commit);
        let links = repository
            .files(&commit)
            .into_iter()
            .map(|name| snapshot.join(name));
        files.extend(
            links.filter(|link| link.canonicalize().is_ok_and(|path| blobs.contains(&path))),
        );
    }
    Removal {
        folders: Vec::new(),
        files,
        size_bytes,
    }
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "1111111111111111111111111111111111111111";
    const SECOND: &str = "2222222222222222222222222222222222222222";

    /// A cache with two commits of a repository. Both have `m-Q8_0.gguf`, and the second one `m-Q4_K_M.gguf` too.
    fn cache(folder: &Path) -> Cache {
        let cache = Cache::new(folder.to_owned());
        let repository = cache.repository("a/b");
        repository.make().unwrap();
        for (etag, size) in [("q8", 80), ("q4", 40)] {
            fs::write(repository.blob(etag), vec![0; size]).unwrap();
        }
        for (commit, name, etag) in [
            (FIRST, "m-Q8_0.gguf", "q8"),
            (SECOND, "m-Q8_0.gguf", "q8"),
            (SECOND, "m-Q4_K_M.gguf", "q4"),
        ] {
            repository.link(commit, name, etag).unwrap();
        }
        repository.set_commit("main", SECOND).unwrap();
        cache
    }

    fn names(cache: &Cache) -> Vec<String> {
        cache.models().into_iter().map(|model| model.name).collect()
    }

    #[test]
    fn models_are_listed_by_the_names_that_serve_takes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let expected = [
            format!("hf:a/b@{FIRST}:m-Q8_0.gguf"),
            "hf:a/b:m-Q4_K_M.gguf".to_owned(),
            "hf:a/b:m-Q8_0.gguf".to_owned(),
        ];
        assert_eq!(names(&cache), expected);
        for model in cache.models() {
            let found = cache.find(&model.name.parse().unwrap()).unwrap();
            assert_eq!(
                (found, len(&model.path)),
                (model.path.clone(), model.size_bytes)
            );
        }
    }

    #[test]
    fn a_quantization_is_removed_from_all_commits() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let removal = cache.removal(&"hf:a/b:Q8_0".parse().unwrap()).unwrap();
        assert_eq!(removal.size_bytes, 80);
        removal.carry_out().unwrap();
        assert_eq!(names(&cache), ["hf:a/b:m-Q4_K_M.gguf"]);
        assert!(!cache.repository("a/b").blob("q8").exists());
        assert!(cache.removal(&"hf:a/b:Q8_0".parse().unwrap()).is_err());
    }

    #[test]
    fn a_repository_is_removed_with_all_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let removal = cache.removal(&"hf:a/b".parse().unwrap()).unwrap();
        assert_eq!(removal.size_bytes, 120);
        removal.carry_out().unwrap();
        assert!(cache.repositories().is_empty());
        assert!(cache.removal(&"hf:a/b".parse().unwrap()).is_err());
    }
}
