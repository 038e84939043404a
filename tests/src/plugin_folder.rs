//! A plugin directory, and what `tenon plugins list` prints about it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon::plugin::RegistryOptions;

use crate::artifacts;

/// A temporary plugin directory. Dropping it removes the directory.
pub struct PluginFolder(TempDir);

/// The output of `tenon plugins list --json`.
pub struct Listed(pub Value);

impl PluginFolder {
    /// An empty directory.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A directory with the library of this crate as `plugin.so`.
    pub fn with(library: &str) -> Self {
        let folder = Self::empty();
        folder.install(library, "plugin.so");
        folder
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Installs the library of a crate by rename. Plugins must be installed so, because a loaded file must not change.
    pub fn install(&self, library: &str, name: &str) {
        install(self.0.path(), library, name);
    }

    /// Installs any library by rename.
    pub fn install_file(&self, library: &Path, name: &str) {
        install_file(self.0.path(), library, name);
    }

    /// Lists the plugins in the directory.
    pub fn list(&self) -> Listed {
        list(&[self.0.path()])
    }

    /// Options for a registry of this directory in the test's own process.
    pub fn options(&self) -> RegistryOptions {
        RegistryOptions {
            executable: artifacts().tenon.clone(),
            ..RegistryOptions::new(vec![self.0.path().into()]).expect("options")
        }
    }
}

/// Installs the library of a crate in a directory by rename.
pub fn install(directory: &Path, library: &str, name: &str) {
    install_file(directory, artifacts().library(library), name);
}

fn install_file(directory: &Path, library: &Path, name: &str) {
    let (new, path) = (directory.join("new"), directory.join(name));
    fs::copy(library, &new).expect("a copy");
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::rename(new, path).expect("a new name");
}

/// Lists the plugins in several directories.
pub fn list(directories: &[&Path]) -> Listed {
    let mut command = Command::new(&artifacts().tenon);
    command.args(["plugins", "list", "--json"]);
    for directory in directories {
        command.arg("--plugins").arg(directory);
    }
    let output = command.output().expect("tenon starts");
    assert!(output.status.success(), "{output:?}");
    Listed(serde_json::from_slice(&output.stdout).expect("JSON"))
}

impl Listed {
    /// Ids of the usable backends.
    pub fn ids(&self) -> Vec<&str> {
        let backends = self.0["backends"].as_array().expect("backends").iter();
        let ids = backends.map(|backend| backend["id"].as_str().expect("an id"));
        ids.collect()
    }

    /// Checks that a file is refused, and that the reason contains this text.
    #[track_caller]
    pub fn check_refused(&self, path: &Path, expected: &str) {
        check_reason(&self.0["refused"], path, expected);
    }

    /// Checks that the only backend comes from this file, and checks the files that were passed over with their reasons.
    #[track_caller]
    pub fn check_variant(&self, path: &Path, passed_over: &[(&Path, &str)]) {
        let backend = &self.0["backends"][0];
        assert_eq!(backend["path"], json!(path), "{:#}", self.0);
        for (path, expected) in passed_over {
            check_reason(&backend["passed_over"], path, expected);
        }
        let listed = backend["passed_over"].as_array().expect("a list");
        assert_eq!(listed.len(), passed_over.len(), "{:#}", self.0);
    }
}

#[track_caller]
fn check_reason(unused: &Value, path: &Path, expected: &str) {
    let mut files = unused.as_array().expect("a list").iter();
    let of_path = files.find(|file| file["path"] == json!(path));
    let of_path = of_path.unwrap_or_else(|| panic!("{path:?} is not in {unused:#}"));
    let reason = of_path["reason"].as_str().expect("a sentence");
    assert!(
        reason.starts_with(path.to_str().expect("UTF-8")),
        "{reason}"
    );
    assert!(reason.contains(expected), "{reason} is not: {expected}");
}
