//! Files that resemble the model's.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    finding::{Checked, Finding},
    subject::Subject,
};

/// A path that does not exist, with the ending of the model's path.
pub fn missing(subject: &Subject) -> String {
    format!("/tenon-check-does-not-exist/model.{}", ending(subject))
}

/// The ending of the model's name.
pub fn ending(subject: &Subject) -> String {
    let model = subject.model.as_deref().and_then(Path::extension);
    model.and_then(OsStr::to_str).unwrap_or("gguf").to_owned()
}

/// A folder for files of a case.
pub fn scratch() -> Checked<TempDir> {
    TempDir::new()
        .map_err(|error| Finding::skipped(format!("there is no temporary folder: {error}")))
}

/// The content of the model's file, or of the largest file of its directory.
pub fn largest_file(model: &Path) -> Checked<Vec<u8>> {
    let path = largest(model).map_err(unreadable)?;
    fs::read(path).map_err(unreadable)
}

/// The finding of a case that cannot read or write the files that it needs.
pub fn unreadable(error: std::io::Error) -> Finding {
    Finding::skipped(format!("the model cannot be read or copied: {error}"))
}

/// The path of the model, or of the largest file of its directory.
pub fn largest(model: &Path) -> std::io::Result<PathBuf> {
    if !model.is_dir() {
        return Ok(model.to_owned());
    }
    let mut largest = (0, model.to_owned());
    for entry in fs::read_dir(model)? {
        let path = entry?.path();
        let meta = fs::metadata(&path)?;
        if meta.is_file() && meta.len() >= largest.0 {
            largest = (meta.len(), path);
        }
    }
    Ok(largest.1)
}

/// A copy of a file or a flat directory, under its own name.
pub fn copy(model: &Path, folder: &Path) -> std::io::Result<PathBuf> {
    let to = folder.join(model.file_name().unwrap_or_default());
    if !model.is_dir() {
        fs::copy(model, &to)?;
        return Ok(to);
    }
    fs::create_dir(&to)?;
    for entry in fs::read_dir(model)? {
        let entry = entry?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to)
}
