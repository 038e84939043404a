//! Collects the problems that sections find while they are resolved.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::layers::Layers;

/// The problems that sections find while they are resolved, a sentence each.
pub struct Refusals<'a> {
    layers: &'a Layers,
    home: Option<&'a Path>,
    secrets: Option<&'a BTreeMap<String, String>>,
    pub problems: Vec<String>,
}

impl<'a> Refusals<'a> {
    /// `secrets` are the environment variables that may have secrets. None: secrets are not to be read.
    pub fn new(
        layers: &'a Layers,
        home: Option<&'a Path>,
        secrets: Option<&'a BTreeMap<String, String>>,
    ) -> Self {
        Self {
            layers,
            home,
            secrets,
            problems: Vec::new(),
        }
    }

    /// Adds a problem. `why` continues the sentence after the name of the key: "must not be empty".
    pub fn refuse(&mut self, key: &[&str], why: &str) {
        self.problems
            .push(format!("{} {why}", self.layers.name(key)));
    }

    /// Refuses a key that was written although `other` replaces it.
    pub fn check_not_beside(&mut self, key: &[&str], other: &str) {
        if self.layers.has(key) {
            let why = format!("has no effect beside \"{other}\": leave one of the two out");
            self.refuse(key, &why);
        }
    }

    pub fn check_not_empty(&mut self, key: &[&str], text: &str) {
        if text.is_empty() {
            self.refuse(key, "must not be empty");
        }
    }

    /// The variables that may have secrets. None: secrets are not to be read.
    pub fn secrets(&self) -> Option<&'a BTreeMap<String, String>> {
        self.secrets
    }

    /// Resolves a path that starts from the directory of the configuration file or, with `~`, from the home directory.
    pub fn whole_path(&mut self, key: &[&str], written: &Path) -> PathBuf {
        if written.as_os_str().is_empty() {
            self.refuse(key, "must not be empty");
        }
        match (written.strip_prefix("~"), self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            (Ok(_), None) => {
                self.refuse(
                    key,
                    "begins with ~, but the environment variable HOME is not set",
                );
                written.into()
            }
            (Err(_), _) => self.layers.directory().join(written),
        }
    }
}
