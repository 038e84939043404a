//! The process's environment variables that have secrets.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// The names of these variables. They belong to the process, as the environment does: a worker that is started again must not get
/// a key that the configuration named only after the worker's first start.
static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers that a variable has a secret.
pub fn add(name: &str) {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.insert(name.to_owned());
}

/// The names of all that were added.
pub fn names() -> BTreeSet<String> {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.clone()
}
