//! GGUF headers: what a file holds, and whether all of it is there, before llama.cpp loads it.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    ptr::NonNull,
};

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Error, Result, levels::TENSOR_TYPES};

use crate::{file_types, log};

const MAGIC: &[u8] = b"GGUF";

/// What the header of a GGUF file says.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// For example `llama`.
    pub architecture: String,
    /// `model`, `adapter`, `mmproj`, …
    pub kind: String,
    /// Of a model that is split into files: which one this is, from 0, and how many there are. Else 0 of 1.
    pub part: u16,
    pub parts: u16,
    /// Quantization level, as far as it is known.
    pub level: String,
    /// Bytes of all tensors of this file.
    pub tensor_bytes: u64,
    /// Where the last tensor ends.
    end_bytes: u64,
}

/// Reads the header of a file that [`crate::model::load`] could take.
///
/// # Errors
/// `IO`, or `INVALID` for a file that is no language model or not the first part of one.
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

/// Checks that a model's file, or each of its parts, has all its tensors. llama.cpp says less clearly, or with a crash, when
/// it has not.
///
/// # Errors
/// `IO`, or `INVALID` with what is wrong with which file.
pub fn check_model(path: &Path) -> Result<()> {
    for (path, header) in read_parts(path)? {
        check_size(&path, &header)?;
    }
    Ok(())
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

fn check_size(path: &Path, header: &Header) -> Result<()> {
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.len() < header.end_bytes {
        return Err(Error::invalid(format!(
            "{} is truncated: its tensors end at byte {}, but the file has {} bytes; download it again",
            path.display(),
            header.end_bytes,
            metadata.len()
        )));
    }
    Ok(())
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
    check_magic(path)?;
    let file = Gguf::open(path)?;
    Ok(Header {
        architecture: file.text(c"general.architecture").unwrap_or_default(),
        kind: file.text(c"general.type").unwrap_or_else(|| "model".into()),
        part: file.number16(c"split.no").unwrap_or(0),
        parts: file.number16(c"split.count").unwrap_or(1).max(1),
        level: file.level().unwrap_or_default().to_owned(),
        tensor_bytes: file.tensor_bytes(),
        end_bytes: file.end_bytes(),
    })
}

fn check_magic(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Error::invalid(format!(
            "{shown} is a directory, not a GGUF file: give the file in it"
        )));
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut start))
        .map_err(|error| unreadable(path, &error))?;
    if start.starts_with(MAGIC) {
        return Ok(());
    }
    let what = match start.as_slice() {
        [] => "it is empty".to_owned(),
        start => format!("it begins with \"{}\"", start.escape_ascii()),
    };
    Err(Error::invalid(format!(
        "{shown} is not a GGUF file ({what}): give a model in GGUF format"
    )))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(
            tenon_plugin_api::Code::IO,
            format!("{} does not exist: check the path", path.display()),
        ),
        _ => Error::io(path, error),
    }
}

/// An opened header.
pub struct Gguf(NonNull<sys::gguf_context>);

impl Gguf {
    /// # Errors
    /// `INVALID` for a damaged file.
    pub fn open(path: &Path) -> Result<Self> {
        let params = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        let name = c_path(path)?;
        // SAFETY: the name is a C string.
        let (file, reason) =
            log::silently(|| unsafe { sys::gguf_init_from_file(name.as_ptr(), params) });
        NonNull::new(file).map(Self).ok_or_else(|| {
            Error::invalid(format!(
                "{} is a damaged or truncated GGUF file ({reason}): download it again",
                path.display()
            ))
        })
    }

    pub fn text(&self, key: &CStr) -> Option<String> {
        let at = self.find(key, sys::GGUF_TYPE_STRING)?;
        // SAFETY: the key is there and a string.
        let text = unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.0.as_ptr(), at)) };
        Some(text.to_string_lossy().into_owned())
    }

    fn number16(&self, key: &CStr) -> Option<u16> {
        let at = self.find(key, sys::GGUF_TYPE_UINT16)?;
        // SAFETY: the key is there and a 16-bit number.
        Some(unsafe { sys::gguf_get_val_u16(self.0.as_ptr(), at) })
    }

    /// A 32-bit number.
    pub fn number(&self, key: &CStr) -> Option<u32> {
        let at = self.find(key, sys::GGUF_TYPE_UINT32)?;
        // SAFETY: the key is there and a 32-bit number.
        Some(unsafe { sys::gguf_get_val_u32(self.0.as_ptr(), at) })
    }

    /// An array of 32-bit numbers.
    pub fn numbers(&self, key: &CStr) -> Option<&[u32]> {
        let at = self.find(key, sys::GGUF_TYPE_ARRAY)?;
        // SAFETY: the key is there and an array; its type is checked before its data, which live as long as the header, is
        // read. Counts are never negative, so that `u32` holds them as they are.
        unsafe {
            let kind = sys::gguf_get_arr_type(self.0.as_ptr(), at);
            if kind != sys::GGUF_TYPE_UINT32 && kind != sys::GGUF_TYPE_INT32 {
                return None;
            }
            let len = sys::gguf_get_arr_n(self.0.as_ptr(), at);
            let data = NonNull::new(sys::gguf_get_arr_data(self.0.as_ptr(), at).cast_mut())?;
            Some(std::slice::from_raw_parts(data.as_ptr().cast(), len))
        }
    }

    /// Length of an array of anything.
    pub fn array_len(&self, key: &CStr) -> Option<usize> {
        let at = self.find(key, sys::GGUF_TYPE_ARRAY)?;
        // SAFETY: the key is there and an array.
        Some(unsafe { sys::gguf_get_arr_n(self.0.as_ptr(), at) })
    }

    /// What the file says, else the type that most tensors have.
    fn level(&self) -> Option<&'static str> {
        match self.number(c"general.file_type") {
            Some(file_type) => file_types::level(file_type),
            None => self.most_common_type(),
        }
    }

    fn most_common_type(&self) -> Option<&'static str> {
        let mut counts = [0; sys::GGML_TYPE_COUNT as usize];
        for at in self.tensors() {
            // SAFETY: the index is below the number of tensors, and types are below their count.
            counts[unsafe { sys::gguf_get_tensor_type(self.0.as_ptr(), at) } as usize] += 1;
        }
        let quantized = |tensor: &&tenon_plugin_api::levels::TensorType| tensor.name != "F32";
        let types = TENSOR_TYPES.iter().filter(quantized);
        let most = types.max_by_key(|tensor| counts[tensor.ggml as usize])?;
        match counts[most.ggml as usize] {
            0 => Some("F32"),
            _ => Some(most.name),
        }
    }

    fn tensors(&self) -> std::ops::Range<i64> {
        // SAFETY: the header is valid.
        0..unsafe { sys::gguf_get_n_tensors(self.0.as_ptr()) }
    }

    fn tensor_bytes(&self) -> u64 {
        // SAFETY: each index is below the number of tensors.
        let size = |at| unsafe { sys::gguf_get_tensor_size(self.0.as_ptr(), at) as u64 };
        self.tensors().map(size).sum()
    }

    /// Where a key is, if its value has this type; llama.cpp ends the process when asked for another one.
    fn find(&self, key: &CStr, kind: sys::gguf_type) -> Option<i64> {
        // SAFETY: the key is a C string, and the type is asked only for a key that is there.
        unsafe {
            let at = sys::gguf_find_key(self.0.as_ptr(), key.as_ptr());
            (at >= 0 && sys::gguf_get_kv_type(self.0.as_ptr(), at) == kind).then_some(at)
        }
    }

    fn end_bytes(&self) -> u64 {
        let file = self.0.as_ptr();
        // SAFETY: each index is below the number of tensors.
        unsafe {
            let data = sys::gguf_get_data_offset(file);
            let end =
                |at| sys::gguf_get_tensor_offset(file, at) + sys::gguf_get_tensor_size(file, at);
            let last = self.tensors().map(end).max();
            last.map_or(0, |end| (data + end) as u64)
        }
    }
}

impl Drop for Gguf {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { sys::gguf_free(self.0.as_ptr()) }
    }
}

/// A path for C.
///
/// # Errors
/// `INVALID` for what cannot be written in UTF-8.
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
