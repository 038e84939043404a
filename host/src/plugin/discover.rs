//! Finds plugin files in the plugin directories.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::DirEntry,
    io,
    path::{Path, PathBuf},
};

use super::{cpu::CpuLevel, signature::signature_path};
use crate::system::file_state::FileState;

/// The contents of the plugin directories.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Libraries, ordered by directory as given, then by name.
    pub libraries: Vec<LibraryBuilds>,
    /// Directories that were not searched or that hold no plugins.
    pub warnings: Vec<DirectoryError>,
}

/// The files of one name in one plugin directory: builds of one plugin for different CPUs, the lowest level first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LibraryBuilds(pub Vec<Variant>);

/// One build of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub path: PathBuf,
    /// The CPU level of the file's folder. None: the file is in the plugin directory itself and is for every CPU.
    pub level: Option<CpuLevel>,
    /// The state of the file. None: it cannot be looked at.
    pub state: Option<FileState>,
    /// The state of its signature's file. None: there is none.
    pub signature: Option<FileState>,
}

/// Why a directory gave no plugins.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("the plugin directory {} cannot be read ({source}): create it and put plugins (.so files) into it, or name another with --plugins", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the folder {} cannot be read ({source}), so no plugin in it is used: check its permissions", path.display())]
    UnreadableLevel { path: PathBuf, source: io::Error },
    #[error("the folder {} is not looked into: the levels of CPUs that a folder can be for are {}", path.display(), level_names())]
    UnknownLevel { path: PathBuf },
    #[error("the plugin directory {} has no plugins: put .so files into it, or name another with --plugins", path.display())]
    Empty { path: PathBuf },
}

/// Lists the `.so` files of the directories, and of the folders for CPU levels in them.
pub fn discover(directories: &[PathBuf]) -> Discovered {
    let mut discovered = Discovered::default();
    for directory in directories {
        discovered.add(directory);
    }
    discovered
}

impl Variant {
    /// The file with this path, as it is now.
    pub fn new(path: PathBuf, level: Option<CpuLevel>) -> Self {
        Self {
            state: FileState::of(&path),
            signature: FileState::of(&signature_path(&path)),
            path,
            level,
        }
    }
}

impl Discovered {
    fn add(&mut self, directory: &Path) {
        let path = directory.to_path_buf();
        let entries = match entries(directory) {
            Ok(entries) => entries,
            Err(source) => {
                let unreadable = DirectoryError::Unreadable { path, source };
                return self.warnings.push(unreadable);
            }
        };
        let mut by_name: BTreeMap<OsString, LibraryBuilds> = BTreeMap::new();
        add_files(&mut by_name, &entries, None);
        for level in CpuLevel::ALL {
            if let Some(folder) = entries
                .iter()
                .find(|entry| entry.file_name() == level.name())
            {
                self.add_level(&mut by_name, &folder.path(), *level);
            }
        }
        self.warn_of_unknown_levels(&entries);
        if by_name.is_empty() {
            self.warnings.push(DirectoryError::Empty { path });
        }
        self.libraries.extend(by_name.into_values());
    }

    fn add_level(
        &mut self,
        by_name: &mut BTreeMap<OsString, LibraryBuilds>,
        folder: &Path,
        level: CpuLevel,
    ) {
        match entries(folder) {
            Ok(entries) => add_files(by_name, &entries, Some(level)),
            Err(source) => self.warnings.push(DirectoryError::UnreadableLevel {
                path: folder.into(),
                source,
            }),
        }
    }

    /// Other folders may have any purpose, but these look like mistakes.
    fn warn_of_unknown_levels(&mut self, entries: &[DirEntry]) {
        let unknown = entries.iter().filter(|entry| is_unknown_level(entry));
        let warnings = unknown.map(|entry| DirectoryError::UnknownLevel { path: entry.path() });
        self.warnings.extend(warnings);
    }
}

/// The entries of a directory, ordered by name.
fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries: Vec<DirEntry> = directory.read_dir()?.collect::<io::Result<_>>()?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn add_files(
    by_name: &mut BTreeMap<OsString, LibraryBuilds>,
    entries: &[DirEntry],
    level: Option<CpuLevel>,
) {
    for entry in entries {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "so") {
            let library = by_name.entry(entry.file_name()).or_default();
            library.0.push(Variant::new(path, level));
        }
    }
}

/// Whether this is a folder with a name like that of a level, such as `x86_64-v3` or `x86-64-v5`.
fn is_unknown_level(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let alike = name
        .to_string_lossy()
        .to_lowercase()
        .replace('_', "-")
        .starts_with("x86-64");
    let known = CpuLevel::ALL.iter().any(|level| name == level.name());
    alike && !known && !CpuLevel::ALL.is_empty() && entry.path().is_dir()
}

fn level_names() -> String {
    let names: Vec<&str> = CpuLevel::ALL.iter().map(|level| level.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A directory with these files; names that end in `/` are folders.
    fn directory(names: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
        }
        root
    }

    fn library(root: &TempDir, files: &[(&str, Option<CpuLevel>)]) -> LibraryBuilds {
        let variant =
            |(path, level): &(&str, Option<CpuLevel>)| Variant::new(root.path().join(path), *level);
        LibraryBuilds(files.iter().map(variant).collect())
    }

    /// Checks that each warning contains what is expected of it.
    #[track_caller]
    fn check_warnings(discovered: &Discovered, expected: &[&str]) {
        let warnings: Vec<_> = discovered
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }

    #[test]
    fn finds_libraries_in_order_and_says_which_directories_have_none() {
        let root = directory(&[
            "first/b.so",
            "first/a.so",
            "first/notes.txt",
            "first/more/d.so",
            "second/c.so",
            "empty/x.so.new",
        ]);
        let searched = ["first", "second", "empty", "missing"].map(|name| root.path().join(name));
        let discovered = discover(&searched);
        let expected = ["first/a.so", "first/b.so", "second/c.so"];
        assert_eq!(
            discovered.libraries,
            expected.map(|path| library(&root, &[(path, None)]))
        );
        let warnings = ["empty has no plugins", "missing cannot be read"];
        check_warnings(&discovered, &warnings);
    }

    #[test]
    fn a_library_differs_once_its_file_is_replaced_written_to_or_signed() {
        let root = directory(&["a.so"]);
        let (path, new) = (root.path().join("a.so"), root.path().join("new"));
        let look = || discover(&[root.path().into()]).libraries;
        let first = look();
        assert_eq!(look(), first);
        fs::write(&new, "").unwrap();
        fs::rename(&new, &path).unwrap();
        let second = look();
        assert_ne!(second, first);
        fs::write(&path, "longer").unwrap();
        let third = look();
        assert_ne!(third, second);
        fs::write(root.path().join("a.so.minisig"), "").unwrap();
        assert_ne!(look(), third);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn files_of_one_name_are_one_library() {
        let root = directory(&[
            "x86-64-v4/a.so",
            "x86-64-v3/a.so",
            "x86-64-v3/b.so",
            "a.so",
            "c.so",
            "x86-64-v2/",
        ]);
        let discovered = discover(&[root.path().into()]);
        let (v3, v4) = (Some(CpuLevel::V3), Some(CpuLevel::V4));
        let a = [
            ("a.so", None),
            ("x86-64-v3/a.so", v3),
            ("x86-64-v4/a.so", v4),
        ];
        let expected = [
            library(&root, &a),
            library(&root, &[("x86-64-v3/b.so", v3)]),
            library(&root, &[("c.so", None)]),
        ];
        assert_eq!(discovered.libraries, expected);
        assert!(discovered.warnings.is_empty(), "{:?}", discovered.warnings);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn folders_that_are_no_level_but_look_like_one_are_told() {
        let root = directory(&[
            "a.so",
            "x86_64-v3/a.so",
            "x86-64-v5/a.so",
            "x86-64/a.so",
            "x86-64-v4",
            "x86-64-v9.txt",
            "haswell/a.so",
        ]);
        let discovered = discover(&[root.path().into()]);
        assert_eq!(discovered.libraries, [library(&root, &[("a.so", None)])]);
        let warnings = [
            "x86-64-v4 cannot be read",
            "x86-64 is not looked into: the levels",
            "x86-64-v5 is not",
            "x86_64-v3 is not",
        ];
        check_warnings(&discovered, &warnings);
    }

    #[test]
    #[cfg(not(target_arch = "x86_64"))]
    fn folders_for_other_processors_are_not_looked_at() {
        let root = directory(&["a.so", "x86-64-v3/a.so", "x86-64-v9/a.so"]);
        let discovered = discover(&[root.path().into()]);
        assert_eq!(discovered.libraries, [library(&root, &[("a.so", None)])]);
        assert!(discovered.warnings.is_empty(), "{:?}", discovered.warnings);
    }
}
