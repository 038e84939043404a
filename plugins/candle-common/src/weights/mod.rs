//! Where tensors come from. They are asked for by the names that GGUF files have, without `.weight`: `blk.0.attn_q`.

pub mod gguf;
pub mod hf;
pub mod quantize;

use candle_core::quantized::{GgmlDType, QTensor};
use tenon_plugin_api::{Code, Error, Result, levels::TensorType};

use crate::kernels::memory::Arena;
use quantize::Quantizer;

/// A model's files.
pub trait Source: Send + Sync {
    /// Whether the model has weights of this name.
    fn has(&self, name: &str) -> bool;

    /// The weights of a linear layer or an embedding: `[rows, width]`. None: the model has none of this name.
    ///
    /// # Errors
    /// `IO`, `INVALID` for damaged files.
    fn matrix(&self, name: &str) -> Result<Option<QTensor>>;

    /// Weights of a norm. None as above.
    ///
    /// # Errors
    /// As above.
    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>>;

    /// Bias of a linear layer. None as above.
    ///
    /// # Errors
    /// As above.
    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>>;
}

/// A source, and what becomes of its matrices on the way.
pub struct Loader<'a> {
    pub source: &'a dyn Source,
    pub quantizer: Option<Quantizer>,
    /// Where the matrices go.
    pub arena: Arena,
}

impl Loader<'_> {
    /// A matrix that need not be there.
    ///
    /// # Errors
    /// As [`Source::matrix`].
    pub fn optional(&self, name: &str) -> Result<Option<QTensor>> {
        let matrix = self.source.matrix(name)?;
        match (&self.quantizer, matrix) {
            (Some(quantizer), Some(matrix)) => quantizer.apply(name, matrix).map(Some),
            (_, matrix) => Ok(matrix),
        }
    }

    /// A matrix that the model cannot do without.
    ///
    /// # Errors
    /// As [`Source::matrix`]; `INVALID` if it is missing.
    pub fn matrix(&self, name: &str) -> Result<QTensor> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    /// The matrix as the source has it.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn unchanged(&self, name: &str) -> Result<QTensor> {
        self.source.matrix(name)?.ok_or_else(|| missing(name))
    }

    /// Weights of a norm that the model cannot do without.
    ///
    /// # Errors
    /// As [`Source::vector`]; `INVALID` if it is missing.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.source.vector(name)?.ok_or_else(|| missing(name))
    }
}

/// candle's type for a tensor type. None: candle has none.
pub fn candle_type(tensor: TensorType) -> Option<GgmlDType> {
    CANDLE_TYPES
        .iter()
        .copied()
        .find(|&kind| type_name(kind) == tensor.name)
}

/// As ggml writes a type of candle's.
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

/// An error of candle's, with what was being done.
pub fn candle_error(what: &str, error: &candle_core::Error) -> Error {
    // Its text may have a backtrace behind the first line.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    Error::new(Code::INVALID, format!("{what}: {reason}"))
}

fn missing(name: &str) -> Error {
    Error::invalid(format!(
        "the model has no tensor {name}: its files are incomplete, or not of the architecture that they name"
    ))
}
