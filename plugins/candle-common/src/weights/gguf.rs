//! Tensors and metadata of a GGUF file.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::{
        QStorage, QTensor,
        gguf_file::{Content, TensorInfo, Value},
    },
};
use tenon_plugin_api::{Code, Error, Result};

use super::{Source, candle_error, type_name};
use crate::{
    config::{self, Config, gguf::RopeFactors},
    kernels::quantized,
    model::{Files, in_file},
    tokenizer::{self, Prompting},
};

/// A file whose header was read.
pub struct GgufFile {
    path: PathBuf,
    content: Content,
    level: &'static str,
}

impl GgufFile {
    /// Reads the header.
    ///
    /// # Errors
    /// `IO`; `INVALID` for what is no language model in one file of a kind that candle reads.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        check_magic(path, &file)?;
        let content = Content::read(&mut BufReader::new(file))
            .map_err(|error| candle_error(&format!("{} cannot be read", path.display()), &error))?;
        let file = Self {
            path: path.to_owned(),
            level: main_type(&content),
            content,
        };
        file.check_kind()?;
        Ok(file)
    }

    /// Whether the own kernels serve all matrices, on this CPU.
    pub fn has_kernels(&self) -> bool {
        let tensors = self.content.tensor_infos.values();
        let mut matrices = tensors.filter(|tensor| tensor.shape.rank() > 1);
        matrices.all(|matrix| quantized::kernel(matrix.ggml_dtype).is_some())
    }

    fn check_kind(&self) -> Result<()> {
        let shown = self.path.display();
        let text = |key: &str| {
            self.content
                .metadata
                .get(key)
                .and_then(|v| v.to_string().ok())
        };
        if let Some(kind) = text("general.type").filter(|kind| *kind != "model") {
            return Err(Error::invalid(format!(
                "{shown} is no language model (its kind is {kind:?}): give a model's GGUF file"
            )));
        }
        let parts = self.content.metadata.get("split.count").map(Value::to_u16);
        match parts {
            Some(Ok(parts)) if parts > 1 => Err(Error::invalid(format!(
                "{shown} is one of {parts} files of a model, and this backend reads models in one file: \
                 merge them with llama-gguf-split, or use org.tenon.llama-cpp"
            ))),
            _ => Ok(()),
        }
    }

    fn tensor(&self, name: &str) -> Result<Option<QTensor>> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Ok(None);
        };
        let mut bytes = vec![0; tensor_bytes(info) as usize];
        let start = self.content.tensor_data_offset + info.offset;
        read_at(&self.path, start, &mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::invalid(format!(
                "{} is truncated: it ends within the tensor {name}; download it again",
                self.path.display()
            )),
            _ => Error::io(&self.path, &error),
        })?;
        QStorage::from_data(bytes.into(), &Device::Cpu, info.ggml_dtype)
            .and_then(|storage| QTensor::new(storage, info.shape.clone()))
            .map(Some)
            .map_err(|error| {
                candle_error(
                    &format!("{}: the tensor {name}", self.path.display()),
                    &error,
                )
            })
    }
}

impl Files for GgufFile {
    fn config(&self) -> Result<Config> {
        let factors = RopeFactors {
            all: self.vector("rope_freqs")?,
            short: self.vector("rope_factors_short")?,
            long: self.vector("rope_factors_long")?,
        };
        config::gguf::parse(&self.content.metadata, factors)
            .map_err(|error| in_file(&self.path, error))
    }

    fn prompting(&self) -> Result<Prompting> {
        tokenizer::from_gguf(&self.content.metadata).map_err(|error| in_file(&self.path, error))
    }

    fn source(&self) -> &dyn Source {
        self
    }

    fn level(&self) -> &str {
        self.level
    }

    fn parameters(&self) -> u64 {
        let tensors = self.content.tensor_infos.values();
        tensors.map(|tensor| tensor.shape.elem_count() as u64).sum()
    }

    fn bytes(&self) -> u64 {
        self.content.tensor_infos.values().map(tensor_bytes).sum()
    }
}

impl Source for GgufFile {
    fn has(&self, name: &str) -> bool {
        self.content
            .tensor_infos
            .contains_key(&format!("{name}.weight"))
    }

    fn matrix(&self, name: &str) -> Result<Option<QTensor>> {
        self.tensor(&format!("{name}.weight"))
    }

    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.tensor(&format!("{name}.weight"))?
            .map(floats)
            .transpose()
    }

    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.tensor(&format!("{name}.bias"))?
            .map(floats)
            .transpose()
    }
}

/// The type that most weights have.
fn main_type(content: &Content) -> &'static str {
    let mut counts = HashMap::<_, usize>::new();
    for tensor in content.tensor_infos.values() {
        *counts.entry(type_name(tensor.ggml_dtype)).or_default() += tensor.shape.elem_count();
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or("", |(name, _)| name)
}

fn tensor_bytes(tensor: &TensorInfo) -> u64 {
    let kind = tensor.ggml_dtype;
    (tensor.shape.elem_count() / kind.block_size() * kind.type_size()) as u64
}

fn floats(tensor: QTensor) -> Result<Vec<f32>> {
    tensor
        .dequantize(&Device::Cpu)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1())
        .map_err(|error| candle_error("reading a tensor", &error))
}

fn check_magic(path: &Path, mut file: &File) -> Result<()> {
    let mut start = Vec::new();
    let read = file
        .take(4)
        .read_to_end(&mut start)
        .and_then(|_| file.rewind());
    read.map_err(|error| unreadable(path, &error))?;
    match start.as_slice() {
        b"GGUF" => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} is not a GGUF file: give a model in GGUF format",
            path.display()
        ))),
    }
}

fn read_at(path: &Path, start: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            Error::new(Code::IO, format!("{shown} does not exist: check the path"))
        }
        ErrorKind::IsADirectory => Error::invalid(format!(
            "{shown} is a directory, not a GGUF file: give the file in it"
        )),
        _ => Error::io(path, error),
    }
}
