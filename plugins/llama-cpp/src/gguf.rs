//! Reads GGUF headers before llama.cpp loads the file: what the file contains, and whether it is complete.

use std::{
    collections::HashMap,
    ffi::CString,
    path::{Path, PathBuf},
};

use tenon_plugin_api::{Error, Result, gguf::Gguf, levels::TENSOR_TYPES};

use crate::file_types;

/// Facts from the header of a GGUF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// For example `llama`.
    pub architecture: String,
    /// `model`, `adapter`, `mmproj`, …
    pub kind: String,
    /// For a model that is split into files: the number of this file, from 0, and the number of all files. Otherwise 0 and
    /// 1.
    pub part: u16,
    pub parts: u16,
    /// Quantization level, if it is known.
    pub level: String,
    /// Bytes of all tensors of this file.
    pub tensor_bytes: u64,
}

/// Reads the header of a language model's file.
///
/// # Errors
/// `IO`, or `INVALID` for a file that is no language model, or not the first part of one.
pub fn read_model(path: &Path) -> Result<Header> {
    let header = read(path)?;
    let (shown, kind) = (path.display(), &header.kind);
    if kind != "model" || header.architecture == "clip" {
        return Err(Error::invalid(format!(
            "{shown} is no language model (its kind is {kind:?}, its architecture {:?}): give a model's GGUF file",
            header.architecture
        )));
    }
    if header.part != 0 {
        return Err(Error::invalid(format!(
            "{shown} is part {} of a model in {} files: give the first, whose name ends in {}",
            header.part + 1,
            header.parts,
            suffix(0, header.parts)
        )));
    }
    Ok(header)
}

/// Checks a model's file, or each of its parts, before llama.cpp reads it: llama.cpp describes faults less clearly, or
/// crashes.
///
/// # Errors
/// `IO`, or `INVALID` with the file and its fault.
pub fn check_model(path: &Path) -> Result<()> {
    read_parts(path).map(|_| ())
}

/// The files of a model, the first one first.
///
/// # Errors
/// As [`check_model`].
pub fn read_parts(path: &Path) -> Result<Vec<(PathBuf, Header)>> {
    let first = read_model(path)?;
    let mut parts = Vec::new();
    for part in 1..first.parts {
        let path = part_path(path, part, first.parts)?;
        let header = read(&path)?;
        parts.push((path, header));
    }
    parts.insert(0, (path.to_owned(), first));
    Ok(parts)
}

fn part_path(first: &Path, part: u16, parts: u16) -> Result<PathBuf> {
    let name = first.to_string_lossy();
    match name.strip_suffix(&suffix(0, parts)) {
        Some(prefix) => Ok(format!("{prefix}{}", suffix(part, parts)).into()),
        None => Err(Error::invalid(format!(
            "{name} is the first of {parts} files of a model: its name must end in {} for the others to be found",
            suffix(0, parts)
        ))),
    }
}

fn suffix(part: u16, parts: u16) -> String {
    format!("-{:05}-of-{parts:05}.gguf", part + 1)
}

fn read(path: &Path) -> Result<Header> {
    let file = Gguf::open(path)?;
    let metadata = file.metadata();
    let checked = metadata.check_model();
    checked.map_err(|error| error.in_file(path))?;
    let text = |key| metadata.text(key).unwrap_or_default().to_owned();
    let number = |key| {
        metadata
            .whole(key)
            .and_then(|number| u16::try_from(number).ok())
    };
    Ok(Header {
        architecture: text("general.architecture"),
        kind: metadata.text("general.type").unwrap_or("model").to_owned(),
        part: number("split.no").unwrap_or(0),
        parts: number("split.count").unwrap_or(1).max(1),
        level: level(&file).unwrap_or_default().to_owned(),
        tensor_bytes: file.tensor_bytes(),
    })
}

/// The level that the file states, or else the type that most tensors have.
fn level(file: &Gguf) -> Option<&'static str> {
    match file.metadata().whole("general.file_type") {
        Some(file_type) => file_types::level(u32::try_from(file_type).ok()?),
        None => most_common_type(file),
    }
}

fn most_common_type(file: &Gguf) -> Option<&'static str> {
    let mut counts = HashMap::<_, usize>::new();
    for (_, tensor) in file.tensors() {
        *counts.entry(tensor.kind().name).or_default() += 1;
    }
    let count = |name| counts.get(name).copied().unwrap_or(0);
    let quantized = TENSOR_TYPES.iter().filter(|tensor| tensor.name != "F32");
    let most = quantized.max_by_key(|tensor| count(tensor.name))?;
    match count(most.name) {
        0 => Some("F32"),
        _ => Some(most.name),
    }
}

/// The path as a C string.
///
/// # Errors
/// `INVALID` for a path that is not UTF-8.
pub fn c_path(path: &Path) -> Result<CString> {
    path.to_str()
        .and_then(|path| CString::new(path).ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{} is not a path in UTF-8: rename the file",
                path.display()
            ))
        })
}
