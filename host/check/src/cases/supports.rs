//! Whether the backend decides quickly and safely which models it can load.

use std::{fs, path::Path};

use fastrand::Rng;

use crate::{
    finding::{Checked, Finding, ensure},
    measure,
    model_files::{ending, largest_file, missing, scratch, unreadable},
    subject::Subject,
};

/// Most bytes that count as a header. The vocabulary of a large model, which some formats have there, has a few megabytes.
const HEADER: u64 = 32 << 20;
/// Bytes of a file of noise.
const NOISE: usize = 10_000;
/// Endings of names that backends look at.
const ENDINGS: [&str; 6] = ["bin", "gguf", "json", "onnx", "pt", "safetensors"];

pub fn missing_is_no(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let missing = missing(subject);
    let support = backend.supports(Path::new(&missing))?;
    if support.score > 0 {
        return Err(Finding::warning(format!(
            "a path that does not exist has a score of {}, so the server tries in vain to load it: look whether there is \
             a file",
            support.score
        )));
    }
    Ok(format!("the answer is no: {}", support.reason))
}

pub fn garbage(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let folder = scratch()?;
    let mut dice = Rng::with_seed(subject.seed);
    let noise: Vec<u8> = (0..NOISE).map(|_| dice.u8(..)).collect();
    let own = ending(subject);
    for ending in ENDINGS.into_iter().chain([own.as_str()]) {
        let path = folder.path().join(format!("noise.{ending}"));
        fs::write(&path, &noise).map_err(unreadable)?;
        backend.supports(&path)?;
    }
    backend.supports(folder.path())?;
    Ok("noise gets an answer under each name".to_owned())
}

pub fn truncated_header(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let model = subject.model_path()?;
    let header = largest_file(model)?;
    let name = model.file_name().unwrap_or_default();
    let folder = scratch()?;
    let path = folder.path().join(name);
    let lengths = [0, 1, 3, 4, 7, 8, 12, 16, 24, 33, 64, 100, 1000, 10_000];
    for length in lengths {
        let cut = &header[..header.len().min(length)];
        fs::write(&path, cut).map_err(unreadable)?;
        backend.supports(&path)?;
    }
    Ok(format!(
        "the file gets an answer at {} lengths",
        lengths.len()
    ))
}

pub fn header_only(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let model = subject.model_path()?;
    let before = measure::bytes_read();
    let support = backend.supports(model)?;
    let read = measure::bytes_read() - before;
    ensure(support.score > 0, || {
        format!(
            "its own model is not supported ({}): say yes in `supports`",
            support.reason
        )
    })?;
    ensure(read <= HEADER, || {
        format!(
            "it read {} MiB to answer, and the server asks for every model: read a header only",
            read >> 20
        )
    })?;
    Ok(format!(
        "it read {read} bytes, and its score is {}",
        support.score
    ))
}
