//! Reads GGUF files: the header, in which every number is checked before memory is asked for, and the bytes of tensors.
//!
//! 1. [`Gguf::open`] reads the header. It refuses a file whose header contradicts itself or the length of the file, and says
//!    why in a sentence.
//! 2. [`Gguf::metadata`] has the file's statements about the model. [`Gguf::tensor`] and [`Gguf::tensors`] find its tensors.
//! 3. [`Metadata::check_model`] refuses values that no language model has: of sizes, epsilons, and tokens outside of the
//!    vocabulary.
//! 4. [`Gguf::read`] returns the bytes of a tensor. They come from the file that was opened, even if another file has its
//!    name by then. [`all_finite`] says whether they are finite numbers.
//!
//! The checks of a header: counts and lengths against the length of the file; no side of a tensor is 0; no size overflows;
//! rows divide into blocks; the data of a tensor is aligned, ends within the file, and overlaps no other tensor's.

mod check;
mod finite;
mod metadata;
mod reader;
mod tensor;
mod value;

pub use finite::all_finite;
pub use metadata::Metadata;
pub use tensor::Tensor;
pub use value::Value;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{Code, Error, Result};
use reader::{Fault, Reader};

const MAGIC: &[u8] = b"GGUF";
/// Both versions have the same layout.
const VERSIONS: [u32; 2] = [2, 3];
const DEFAULT_ALIGNMENT: u64 = 32;
/// Bytes of the shortest entry of the metadata: the length of its key, its type, and a value of one byte.
const LEAST_PAIR_BYTES: u64 = 13;
/// Bytes of the shortest entry of the table of tensors: the length of its name, the number of its sides, one side, its type
/// and its offset.
const LEAST_TENSOR_BYTES: u64 = 32;

/// A file whose header was read.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    tensors: HashMap<String, Tensor>,
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// `IO`; `INVALID` for a file that is not a GGUF file or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let (metadata, tensors) = read_header(&file).map_err(|fault| match fault {
            Fault::Io(error) => Error::io(path, &error),
            Fault::Wrong { subject, what } => Error::invalid(format!(
                "{} is a damaged or truncated GGUF file ({subject} {what}): download it again",
                path.display()
            )),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            tensors,
        })
    }

    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of the model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A tensor by its whole name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors with their names, in no particular order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.values().map(Tensor::bytes).sum()
    }

    /// The bytes of one of the file's tensors.
    ///
    /// # Errors
    /// `IO`; `NO_MEMORY`; `INVALID` if the file has become shorter.
    pub fn read(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let len = tensor.bytes() as usize;
        let room = bytes.try_reserve_exact(len);
        room.map_err(|_| Error::new(Code::NO_MEMORY, format!("no memory for {len} bytes")))?;
        bytes.resize(len, 0);
        let read = self.file.read_exact_at(&mut bytes, tensor.start());
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::invalid(format!(
                "{} has become shorter while it was read: load it again",
                self.path.display()
            )),
            _ => Error::io(&self.path, &error),
        })?;
        Ok(bytes)
    }
}

/// Opens a file and checks that it begins with the magic bytes of GGUF.
fn open_file(path: &Path) -> Result<File> {
    let unreadable = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::new(
            Code::IO,
            format!("{} does not exist: check the path", path.display()),
        ),
        _ => Error::io(path, error),
    };
    // Opening a pipe would wait for a process that writes into it.
    let kind = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "directory" } else { "device" };
        return Err(Error::invalid(format!(
            "{} is a {what}, not a GGUF file: give the file in it",
            path.display()
        )));
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut start = Vec::new();
    let read = (&file).take(8).read_to_end(&mut start);
    read.map_err(|error| unreadable(&error))?;
    if start.starts_with(MAGIC) {
        return Ok(file);
    }
    let what = match start.as_slice() {
        [] => "it is empty".to_owned(),
        start => format!("it begins with \"{}\"", start.escape_ascii()),
    };
    Err(Error::invalid(format!(
        "{} is not a GGUF file ({what}): give a model in GGUF format",
        path.display()
    )))
}

type Contents = (Metadata, HashMap<String, Tensor>);

fn read_header(file: &File) -> std::result::Result<Contents, Fault> {
    let mut reader = Reader::new(file, MAGIC.len() as u64)?;
    let version = reader.u32()?;
    if !VERSIONS.contains(&version) {
        return Err(Fault::wrong(format!(
            "is of version {version}, but {VERSIONS:?} are known"
        )));
    }
    let tensor_count = reader.count("tensors", LEAST_TENSOR_BYTES)?;
    let pair_count = reader.count("keys", LEAST_PAIR_BYTES)?;
    let mut metadata = HashMap::new();
    for _ in 0..pair_count {
        let key = reader.text()?;
        let value = Value::read(&mut reader).map_err(|fault| fault.of(&key))?;
        if metadata.contains_key(&key) {
            return Err(Fault::wrong("is there twice").of(&key));
        }
        metadata.insert(key, value);
    }
    let metadata = Metadata::from(metadata);
    let mut tensors = HashMap::new();
    for _ in 0..tensor_count {
        let name = reader.text()?;
        let tensor = Tensor::read(&mut reader).map_err(|fault| fault.of(&name))?;
        if tensors.contains_key(&name) {
            return Err(Fault::wrong("is there twice").of(&name));
        }
        tensors.insert(name, tensor);
    }
    tensor::place(&mut tensors, &reader, alignment(&metadata)?)?;
    Ok((metadata, tensors))
}

fn alignment(metadata: &Metadata) -> std::result::Result<u64, Fault> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = value
        .whole()
        .filter(|alignment| alignment.is_power_of_two());
    alignment.ok_or_else(|| {
        let what = format!("is {value}, but must be a power of two");
        Fault::wrong(what).of("general.alignment")
    })
}

#[cfg(test)]
mod tests;
