//! Reads tensors and metadata of a model in GGUF files.

use std::{collections::HashMap, path::Path};

use candle_core::{
    Device,
    quantized::{QStorage, QTensor},
};
use tenon_plugin_api::{
    Error, Result,
    gguf::Tensor,
    hf_tokenizer::{self, Prompting},
};

use super::{TensorSource, candle_error, candle_type, finite, split_gguf::SplitGguf};
use crate::{
    config::{self, Config, gguf::RopeFactors},
    kernels::quantized,
    model::Files,
};

/// A model whose headers were read.
pub struct GgufFile {
    parts: SplitGguf,
    level: &'static str,
}

/// Most numbers in a norm or a bias.
const MAX_VECTOR: u64 = 16 << 20;

impl GgufFile {
    /// Reads the header, and the headers of the model's other files if it was split.
    ///
    /// # Errors
    /// `IO`; `INVALID` if it is not a language model that candle can read.
    pub fn open(path: &Path) -> Result<Self> {
        let parts = SplitGguf::open(path)?;
        check_kind(&parts)?;
        let checked = parts.metadata().check_model();
        checked.map_err(|error| error.in_file(path))?;
        for (name, tensor) in parts.tensors() {
            candle_type(tensor.kind()).ok_or_else(|| {
                Error::invalid(format!(
                    "{}: the tensor {name} is of type {}, which this backend does not have: use org.tenon.llama-cpp",
                    path.display(),
                    tensor.kind().name
                ))
            })?;
        }
        Ok(Self {
            level: main_type(&parts),
            parts,
        })
    }

    /// Whether this crate's kernels serve all matrices on this CPU.
    pub fn has_kernels(&self) -> bool {
        let mut matrices = self
            .parts
            .tensors()
            .filter(|(_, tensor)| tensor.sides().len() > 1);
        let kind = |tensor: &Tensor| candle_type(tensor.kind());
        matrices.all(|(_, matrix)| kind(matrix).and_then(quantized::kernel).is_some())
    }

    fn tensor(&self, name: &str) -> Result<Option<QTensor>> {
        let Some((file, tensor)) = self.parts.tensor(name) else {
            return Ok(None);
        };
        let kind =
            candle_type(tensor.kind()).ok_or_else(|| Error::unsupported(tensor.kind().name))?;
        let bytes = file.read(tensor)?;
        finite::check(name, kind, &bytes).map_err(|error| error.in_file(file.path()))?;
        // In candle's order of dimensions the length of a row is last.
        let sides = tensor.sides().iter().rev().map(|&side| side as usize);
        QStorage::from_data(bytes.into(), &Device::Cpu, kind)
            .and_then(|storage| QTensor::new(storage, sides.collect::<Vec<_>>()))
            .map(Some)
            .map_err(|error| {
                let path = file.path().display();
                candle_error(&format!("{path}: the tensor {name}"), &error)
            })
    }

    fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let tensor = self.parts.tensor(name);
        let len = tensor.map_or(0, |(_, tensor)| tensor.elements());
        if len > MAX_VECTOR {
            return Err(Error::invalid(format!(
                "{}: the tensor {name} has {len} numbers, too many for what it is: download the file again",
                self.parts.path().display()
            )));
        }
        self.tensor(name)?.map(floats).transpose()
    }
}

impl Files for GgufFile {
    fn config(&self) -> Result<Config> {
        let factors = RopeFactors {
            all: self.vector("rope_freqs")?,
            short: self.vector("rope_factors_short")?,
            long: self.vector("rope_factors_long")?,
        };
        config::gguf::parse(self.parts.metadata(), factors)
            .map_err(|error| error.in_file(self.parts.path()))
    }

    fn prompting(&self) -> Result<Prompting> {
        let prompting = hf_tokenizer::from_gguf(self.parts.metadata());
        prompting.map_err(|error| error.in_file(self.parts.path()))
    }

    fn source(&self) -> &dyn TensorSource {
        self
    }

    fn level(&self) -> &str {
        self.level
    }

    fn parameters(&self) -> u64 {
        self.parts
            .tensors()
            .map(|(_, tensor)| tensor.elements())
            .sum()
    }

    fn bytes(&self) -> u64 {
        self.parts.tensor_bytes()
    }
}

impl TensorSource for GgufFile {
    fn has(&self, name: &str) -> bool {
        self.parts.tensor(&format!("{name}.weight")).is_some()
    }

    fn matrix(&self, name: &str) -> Result<Option<QTensor>> {
        self.tensor(&format!("{name}.weight"))
    }

    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.floats(&format!("{name}.weight"))
    }

    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.floats(&format!("{name}.bias"))
    }
}

fn check_kind(parts: &SplitGguf) -> Result<()> {
    match parts.metadata().text("general.type") {
        Some(kind) if kind != "model" => Err(Error::invalid(format!(
            "{} is no language model (its kind is {kind:?}): give a model's GGUF file",
            parts.path().display()
        ))),
        _ => Ok(()),
    }
}

/// The type that most of the weights have.
fn main_type(parts: &SplitGguf) -> &'static str {
    let mut counts = HashMap::<_, u64>::new();
    for (_, tensor) in parts.tensors() {
        *counts.entry(tensor.kind().name).or_default() += tensor.elements();
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or("", |(name, _)| name)
}

fn floats(tensor: QTensor) -> Result<Vec<f32>> {
    tensor
        .dequantize(&Device::Cpu)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1())
        .map_err(|error| candle_error("reading a tensor", &error))
}
