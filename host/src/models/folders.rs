//! Directories of models: which models are in them, and which directories to watch for changes.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{
    config::{Config, Model, ModelFolder},
    plugin::Registry,
    system::{file_state::FileState, watched::nearest},
};

/// The contents of a configuration's directories: each path that may be a model, with its state.
pub type Contents = Vec<(PathBuf, Option<FileState>)>;

/// The contents of these directories now, by directory and name.
pub fn contents(folders: &[ModelFolder]) -> Contents {
    let paths = folders.iter().flat_map(|folder| candidates(&folder.path));
    let with_state = paths.map(|path| {
        let state = FileState::of(&path);
        (path, state)
    });
    with_state.collect()
}

/// The directories to watch for changes of a directory's contents. For a missing directory, the nearest one in which it would be
/// made.
pub fn to_watch(folder: &Path) -> Vec<PathBuf> {
    // Weights may appear in its subdirectories.
    let inner = entries(folder).filter(|path| path.is_dir() && !is_hidden(path));
    nearest(folder).into_iter().chain(inner).collect()
}

/// Adds the models of a configuration's directories behind those that it names. A model whose name is taken already is left out.
/// Models that are `served` stay as long as their files do, even if their plugin is missing. Blocks, because the plugins have to
/// look at new files.
pub fn with_models_of_folders(mut config: Config, plugins: &Registry, served: &[Model]) -> Config {
    let names = config.models.iter().flat_map(|model| {
        let aliases = model.aliases.iter().cloned();
        [model.id.clone()].into_iter().chain(aliases)
    });
    let mut taken: HashSet<String> = names.collect();
    for folder in &config.folders {
        let candidates = candidates(&folder.path);
        let supported = plugins.supported(&candidates);
        let is_model = |path: &&PathBuf| {
            supported.contains(path) || served.iter().any(|model| model.path.local() == Some(path))
        };
        for path in candidates.iter().filter(is_model) {
            let model = folder.model_at(path);
            match taken.insert(model.id.clone()) {
                true => config.models.push(model),
                false => warn!(
                    "{} is not served, because another model is called '{}': rename it",
                    path.display(),
                    model.id
                ),
            }
        }
    }
    config
}

/// What may be a model in a directory: files, and directories with weights, by name. Hidden ones are left out. A directory that
/// cannot be read has none.
pub fn candidates(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = entries(folder).filter(|path| is_candidate(path)).collect();
    paths.sort();
    paths
}

fn is_candidate(path: &Path) -> bool {
    !is_hidden(path) && (path.is_file() || entries(path).any(|path| is_safetensors(&path)))
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

fn is_safetensors(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "safetensors")
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_in_a_directory_are_watched_too() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("models");
        assert_eq!(to_watch(&path), [root.path()]);
        for inner in [".hidden", "hf"] {
            fs::create_dir_all(path.join(inner)).unwrap();
        }
        fs::write(path.join("a.gguf"), "").unwrap();
        assert_eq!(to_watch(&path), [path.clone(), path.join("hf")]);
    }

    #[test]
    fn files_and_directories_with_weights_may_be_models() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "b.gguf",
            "a.gguf",
            ".hidden.gguf",
            "hf/model.safetensors",
            "notes/readme.md",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = ["a.gguf", "b.gguf", "hf"].map(|name| root.path().join(name));
        assert_eq!(candidates(root.path()), found);
        assert!(candidates(&root.path().join("missing")).is_empty());
    }
}
