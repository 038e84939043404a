//! The file to load for a level: the model's own file, or one in the cache that was quantized from it.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use tenon_plugin_api::{Error, LoadArgs, ModelInfo, Result, levels};

use crate::{
    cache::{Cache, PartFile},
    file_types, gguf,
    quantize::{self, Report},
};

/// How many bytes of a file are read at once.
const CHUNK_BYTES: usize = 4 << 20;

/// A model's file at a level.
pub struct LevelFile {
    pub path: PathBuf,
    /// Level of the file that this one was made from; empty if it is not known.
    pub source_level: String,
    /// Number of tensors that are not at the level because of their shape.
    pub fallback_tensors: u32,
}

/// Finds the files of levels, and makes those that are missing.
pub struct LevelFiles {
    cache: Cache,
    hashes: Mutex<HashMap<Identity, String>>,
}

/// Device, inode, length and time of change of a file. While these stay the same, the content does too.
type Identity = (u64, u64, u64, i64, i64);

impl LevelFiles {
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            hashes: Mutex::default(),
        }
    }

    /// The file of the model `source` at the level `asked`, in any spelling. None: at the file's own level.
    ///
    /// # Errors
    /// `INVALID` and `UNSUPPORTED` for levels as in [`levels::choose`]; the errors of [`quantize`] and of the cache.
    pub fn find(
        &self,
        source: &Path,
        asked: Option<&str>,
        threads: u32,
        report: Report,
    ) -> Result<LevelFile> {
        let source_level = gguf::read_model(source)?.level;
        let mut file = LevelFile {
            path: source.to_owned(),
            source_level,
            fallback_tensors: 0,
        };
        let offered = file_types::levels_from(&file.source_level);
        // At its own level, no file is better than the original.
        if let Some(level) = levels::change(asked, &file.source_level, &offered)? {
            let expected = quantize::dry_run(source, level)?;
            file.path = self.made(source, level, expected.weight_bytes, threads, report)?;
            file.fallback_tensors = expected.fallback_tensors;
        }
        Ok(file)
    }

    fn made(
        &self,
        source: &Path,
        level: &str,
        weight_bytes: u64,
        threads: u32,
        report: Report,
    ) -> Result<PathBuf> {
        let name = format!("{}-{level}.gguf", self.hash(source, report)?);
        let bytes = weight_bytes + header_bytes(source)?;
        let wait = || report(None, "waiting for another process that makes the same file");
        let write = |output: &Path| quantize::write(source, output, level, threads, report);
        self.cache.get(&name, bytes, wait, write)
    }

    /// Hash of the model's content and of the quantizer's version: another version of llama.cpp may quantize differently.
    fn hash(&self, source: &Path, report: Report) -> Result<String> {
        // SAFETY: llama.cpp returns a constant.
        let version = unsafe { std::ffi::CStr::from_ptr(llama_cpp_sys_2::llama_version()) };
        let mut whole = Sha256::new_with_prefix(version.to_bytes());
        for (path, _) in gguf::read_parts(source)? {
            whole.update(self.file_hash(&path, report)?);
        }
        Ok(hex(&whole.finalize()[..16]))
    }

    /// Hash of a file. Each file is read once per process, because that may take long.
    fn file_hash(&self, path: &Path, report: Report) -> Result<String> {
        let io = |error| Error::io(path, &error);
        let mut file = File::open(path).map_err(io)?;
        let identity = identity(&file.metadata().map_err(io)?);
        let known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = known.get(&identity) {
            return Ok(hash.clone());
        }
        drop(known);
        let message = format!("reading {}", path.display());
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk).map_err(io)? {
                0 => break,
                len => hash.update(&chunk[..len]),
            }
            report(None, &message)?;
        }
        let hash = hex(&hash.finalize());
        let mut known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(identity, hash.clone());
        Ok(hash)
    }
}

/// Writes a model at the level of `args` to a file, whatever the model's own level is.
///
/// # Errors
/// See [`Backend::quantize`](tenon_plugin_api::Backend::quantize).
pub fn write(args: &LoadArgs, output: &Path, threads: u32, report: Report) -> Result<ModelInfo> {
    gguf::check_model(&args.path)?;
    let source_level = gguf::read_model(&args.path)?.level;
    let asked = args.quantize.as_deref().unwrap_or(&source_level);
    let offered = file_types::levels_from(&source_level);
    let level = levels::choose(asked, &offered)?;
    let expected = quantize::dry_run(&args.path, level)?;
    let wait = || {
        report(
            None,
            "waiting for another process that writes the same file",
        )
    };
    let part = PartFile::claim(output, wait)?;
    quantize::write(&args.path, &part.path, level, threads, report)?;
    part.finish(output)?;
    let mut written = ModelInfo::default();
    written.quantization = level.to_owned();
    written.source_quantization = source_level;
    written.weight_bytes = gguf::read_model(output)?.tensor_bytes;
    written.fallback_tensors = expected.fallback_tensors;
    Ok(written)
}

/// Bytes of a model's files besides the tensors.
pub fn header_bytes(source: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (path, header) in gguf::read_parts(source)? {
        let metadata = path.metadata().map_err(|error| Error::io(&path, &error))?;
        bytes += metadata.len().saturating_sub(header.tensor_bytes);
    }
    Ok(bytes)
}

fn identity(file: &Metadata) -> Identity {
    let changed = (file.ctime(), file.ctime_nsec());
    (file.dev(), file.ino(), file.len(), changed.0, changed.1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
