//! Sources of tensors. Tensors are asked for by their names in GGUF files, without `.weight`: `blk.0.attn_q`.

mod finite;
pub mod gguf;
pub mod hf;
pub mod quantize;
mod split_gguf;

use candle_core::quantized::{GgmlDType, QTensor};
use tenon_plugin_api::{Code, Error, Result, levels::TensorType};

use crate::kernels::memory::Arena;
use quantize::Quantizer;

/// A model's files.
pub trait TensorSource: Send + Sync {
    /// Whether the model has weights of this name.
    fn has(&self, name: &str) -> bool;

    /// The weights of a linear layer or an embedding: `[rows, width]`. None if the model has no weights of this name.
    ///
    /// # Errors
    /// `IO`, `INVALID` for damaged files.
    fn matrix(&self, name: &str) -> Result<Option<QTensor>>;

    /// The weights of a norm. None if the model has none of this name.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>>;

    /// The bias of a linear layer. None if the model has none of this name.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>>;
}

/// Loads tensors from a source, and quantizes its matrices if there is a quantizer.
pub struct TensorLoader<'a> {
    pub source: &'a dyn TensorSource,
    pub quantizer: Option<Quantizer>,
    /// Memory for the matrices.
    pub arena: Arena,
}

impl TensorLoader<'_> {
    /// A matrix that may be missing.
    ///
    /// # Errors
    /// As [`TensorSource::matrix`].
    pub fn optional(&self, name: &str) -> Result<Option<QTensor>> {
        let matrix = self.source.matrix(name)?;
        match (&self.quantizer, matrix) {
            (Some(quantizer), Some(matrix)) => quantizer.apply(name, matrix).map(Some),
            (_, matrix) => Ok(matrix),
        }
    }

    /// A matrix that the model needs.
    ///
    /// # Errors
    /// As [`TensorSource::matrix`]; `INVALID` if it is missing.
    pub fn matrix(&self, name: &str) -> Result<QTensor> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    /// A matrix that is not quantized, but stays as the source has it.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn unchanged(&self, name: &str) -> Result<QTensor> {
        self.source.matrix(name)?.ok_or_else(|| missing(name))
    }

    /// The weights of a norm that the model needs.
    ///
    /// # Errors
    /// As [`TensorSource::vector`]; `INVALID` if it is missing.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.source.vector(name)?.ok_or_else(|| missing(name))
    }
}

/// candle's type for a tensor type. None if candle does not have it.
pub fn candle_type(tensor: TensorType) -> Option<GgmlDType> {
    CANDLE_TYPES
        .iter()
        .copied()
        .find(|&kind| type_name(kind) == tensor.name)
}

/// The name that ggml has for a type of candle's.
pub fn type_name(kind: GgmlDType) -> &'static str {
    match kind {
        GgmlDType::F32 => "F32",
        GgmlDType::F16 => "F16",
        GgmlDType::BF16 => "BF16",
        GgmlDType::Q4_0 => "Q4_0",
        GgmlDType::Q4_1 => "Q4_1",
        GgmlDType::Q5_0 => "Q5_0",
        GgmlDType::Q5_1 => "Q5_1",
        GgmlDType::Q8_0 => "Q8_0",
        GgmlDType::Q8_1 => "Q8_1",
        GgmlDType::Q2K => "Q2_K",
        GgmlDType::Q3K => "Q3_K",
        GgmlDType::Q4K => "Q4_K",
        GgmlDType::Q5K => "Q5_K",
        GgmlDType::Q6K => "Q6_K",
        GgmlDType::Q8K => "Q8_K",
    }
}

/// Types that candle can make from floats.
const CANDLE_TYPES: &[GgmlDType] = &[
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q6K,
    GgmlDType::Q5K,
    GgmlDType::Q5_1,
    GgmlDType::Q5_0,
    GgmlDType::Q4K,
    GgmlDType::Q4_1,
    GgmlDType::Q4_0,
    GgmlDType::Q3K,
    GgmlDType::Q2K,
    GgmlDType::Q8K,
];

/// An error of candle's, together with what was being done.
pub fn candle_error(what: &str, error: &candle_core::Error) -> Error {
    // The text may have a backtrace after its first line.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    Error::new(Code::INVALID, format!("{what}: {reason}"))
}

fn missing(name: &str) -> Error {
    Error::invalid(format!(
        "the model has no tensor {name}: its files are incomplete, or not of the architecture that they name"
    ))
}

/// Checks the length of a tensor's side.
///
/// # Errors
/// `INVALID` with the tensor's name, if its size differs from the configuration's.
pub fn check_side(name: &str, size: usize, expected: usize) -> Result<()> {
    if size == expected {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the tensor {name} has a side of {size} where the model's configuration says {expected}: the files do not belong together"
    )))
}
