//! Reads a model's small files, each of which may be missing.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::Path,
};

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Longest file that is read as text. The largest tokenizers take a third of this length. Parsed data takes several times the
/// length of its file.
const MAX_BYTES: u64 = 128 << 20;

/// Reads a JSON file. None if the file is missing.
///
/// # Errors
/// `IO`, or `INVALID` with the place of the mistake in the file.
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

/// Reads a text file. None if the file is missing.
///
/// # Errors
/// `IO`; `INVALID` for a path that is no file, and for a file that is too long.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    let io = |error| Error::io(path, &error);
    // Opening a pipe would wait for a process that writes into it.
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.is_file() => {
            let shown = path.display();
            return Err(Error::invalid(format!(
                "{shown} is no file: get the model's files again"
            )));
        }
        Ok(_) => {}
    }
    let mut text = String::new();
    let file = File::open(path).map_err(io)?;
    let read = file
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(io)?;
    if read as u64 > MAX_BYTES {
        return Err(Error::invalid(format!(
            "{} has more than {MAX_BYTES} bytes: get the model's files again",
            path.display()
        )));
    }
    Ok(Some(text))
}
