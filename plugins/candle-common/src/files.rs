//! Small files of a model that need not exist.

use std::{fs, io::ErrorKind, path::Path};

use serde::de::DeserializeOwned;
use tenon_plugin_api::{Error, Result};

/// Reads a JSON file that need not exist.
///
/// # Errors
/// `IO`, or `INVALID` with the place where the file is wrong.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text).map_err(|error| {
        Error::invalid(format!(
            "{} cannot be read ({error}): get the model's files again",
            path.display()
        ))
    });
    value.map(Some)
}

/// Reads a text file that need not exist.
///
/// # Errors
/// `IO`.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, &error)),
    }
}
