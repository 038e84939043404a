//! Finds plugin files.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What is in the plugin directories.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Libraries: directories in the given order, files by name.
    pub files: Vec<PathBuf>,
    /// Directories that gave none.
    pub empty: Vec<DirectoryError>,
}

/// Why a directory gave no plugins.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("the plugin directory {} cannot be read ({source}): create it and put plugins (.so files) into it, or name another with --plugins", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the plugin directory {} has no plugins: put .so files into it, or name another with --plugins", path.display())]
    Empty { path: PathBuf },
}

/// Lists the `.so` files of the directories.
pub fn discover(directories: &[PathBuf]) -> Discovered {
    let mut discovered = Discovered::default();
    for directory in directories {
        match libraries(directory) {
            Ok(files) => discovered.files.extend(files),
            Err(error) => discovered.empty.push(error),
        }
    }
    discovered
}

fn libraries(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let mut files = so_files(directory).map_err(|source| DirectoryError::Unreadable {
        path: directory.into(),
        source,
    })?;
    if files.is_empty() {
        return Err(DirectoryError::Empty {
            path: directory.into(),
        });
    }
    files.sort();
    Ok(files)
}

fn so_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = directory.read_dir()?.map(|entry| Ok(entry?.path()));
    let is_library =
        |path: &PathBuf| path.extension().is_some_and(|ext| ext == "so") && !path.is_dir();
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(is_library).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_libraries_in_order_and_says_which_directories_have_none() {
        let root = tempfile::tempdir().unwrap();
        let directory = |name: &str| root.path().join(name);
        for name in ["second", "first", "empty", "first/folder.so"] {
            std::fs::create_dir_all(directory(name)).unwrap();
        }
        for file in [
            "first/b.so",
            "first/a.so",
            "first/notes.txt",
            "second/c.so",
            "empty/x.so.new",
        ] {
            std::fs::write(directory(file), "").unwrap();
        }

        let searched = ["first", "second", "empty", "missing"].map(directory);
        let discovered = discover(&searched);
        let expected = ["first/a.so", "first/b.so", "second/c.so"].map(directory);
        assert_eq!(discovered.files, expected);
        let reasons: Vec<String> = discovered.empty.iter().map(ToString::to_string).collect();
        assert!(reasons[0].contains("empty has no plugins"), "{reasons:?}");
        assert!(reasons[1].contains("missing cannot be read"), "{reasons:?}");
        assert_eq!(reasons.len(), 2);
    }
}
