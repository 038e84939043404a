//! Weights of one type, and how to multiply with them.

use candle_core::{
    CpuStorage, CustomOp1, Device, Layout, Storage, Tensor,
    quantized::{GgmlDType, QTensor},
};
use tenon_plugin_api::{Code, Error, Result};

use super::floats::Floats;
use crate::{
    kernels::{
        gemm::{self, Rows},
        quantized::{self, Kernel, Packed, RoundedRows},
    },
    matrix::Matrix,
    pool::{self, SharedRows},
    weights::{
        candle_error,
        quantize::{dimensions, rows_as_floats},
    },
};

/// From so many rows of input on, quantized weights without a kernel of their own are widened to floats and multiplied as
/// such, unless candle sorts them for many rows: widening costs once, and float products are faster.
const WIDEN_FROM: usize = 24;
/// Rows of weights widened at once: they stay in the second cache.
const PANEL: usize = 128;

/// Weights of one type: `[outputs, inputs]`.
pub struct Part {
    kind: GgmlDType,
    outputs: usize,
    inputs: usize,
    weights: Weights,
}

enum Weights {
    /// For the own kernel, which was chosen when they were loaded.
    Packed(Packed, Kernel),
    Floats(Floats),
    /// As files have them. candle keeps a copy of some types, sorted for products of many rows.
    Candle(QTensor),
}

impl Weights {
    fn new(matrix: QTensor, inputs: usize) -> candle_core::Result<Self> {
        if let Some(floats) = Floats::new(&matrix)? {
            return Ok(Self::Floats(floats));
        }
        let packed = match quantized::kernel(matrix.dtype()) {
            Some(kernel) => {
                Packed::new(&matrix.data()?, matrix.dtype(), inputs).map(|packed| (packed, kernel))
            }
            None => None,
        };
        Ok(match packed {
            Some((packed, kernel)) => Self::Packed(packed, kernel),
            None => Self::Candle(matrix),
        })
    }
}

impl Part {
    /// # Errors
    /// For what is no matrix.
    pub fn new(matrix: QTensor) -> Result<Self> {
        let (outputs, inputs) = dimensions(&matrix)?;
        let kind = matrix.dtype();
        let weights = Weights::new(matrix, inputs);
        Ok(Self {
            kind,
            outputs,
            inputs,
            weights: weights.map_err(|error| candle_error("reading weights", &error))?,
        })
    }

    pub fn kind(&self) -> GgmlDType {
        self.kind
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Whether candle's own kernels compute it.
    pub fn uses_candles_threads(&self) -> bool {
        matches!(self.weights, Weights::Candle(_))
    }

    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Packed(weights, _) => weights.bytes(),
            Weights::Floats(weights) => weights.bytes(),
            Weights::Candle(weights) => weights.storage_size_in_bytes(),
        }
    }

    /// The weights of some outputs, a row each.
    ///
    /// # Errors
    /// For outputs that do not exist.
    pub fn rows(&self, outputs: &[u32]) -> Result<Matrix> {
        if let Some(wrong) = outputs
            .iter()
            .find(|&&output| output as usize >= self.outputs)
        {
            return Err(Error::invalid(format!(
                "weights of {} outputs have no row {wrong}",
                self.outputs
            )));
        }
        match &self.weights {
            Weights::Packed(weights, _) => {
                let rows = outputs.iter().map(|&output| weights.row(output as usize));
                Ok(Matrix::new(rows.flatten().collect(), self.inputs))
            }
            Weights::Floats(weights) => {
                let mut rows = Vec::with_capacity(outputs.len() * self.inputs);
                for &output in outputs {
                    weights.read_row(output as usize, self.inputs, &mut rows);
                }
                Ok(Matrix::new(rows, self.inputs))
            }
            Weights::Candle(weights) => {
                let rows = Tensor::new(outputs, &Device::Cpu)
                    .and_then(|outputs| weights.embedding(&outputs))
                    .and_then(|rows| rows.flatten_all()?.to_vec1());
                let rows = rows.map_err(|error| candle_error("reading weights", &error))?;
                Ok(Matrix::new(rows, self.inputs))
            }
        }
    }

    /// `input · weightsᵀ`
    ///
    /// # Errors
    /// `INVALID` for input of another width; `INTERNAL` for what candle refuses.
    pub fn multiply(&self, input: &Matrix) -> Result<Matrix> {
        if self.inputs != input.width() {
            return Err(Error::invalid(format!(
                "weights for {} inputs got {}: the model's files do not fit its configuration",
                self.inputs,
                input.width()
            )));
        }
        let result = match &self.weights {
            Weights::Packed(weights, kernel) => {
                return Ok(multiply_rounded(input, weights, *kernel));
            }
            Weights::Floats(weights) => return Ok(weights.multiply(input, self.outputs)),
            Weights::Candle(weights) if input.rows() >= WIDEN_FROM && !self.is_sorted() => {
                multiply_widened(input, weights, self.outputs)
            }
            Weights::Candle(weights) => multiply_by_candle(input, weights, self.outputs),
        };
        result.map_err(|error| {
            Error::new(
                Code::INTERNAL,
                format!("candle could not multiply: {error}"),
            )
        })
    }

    /// Whether candle sorts such weights for products of many rows.
    fn is_sorted(&self) -> bool {
        matches!(self.kind, GgmlDType::Q4K | GgmlDType::Q6K | GgmlDType::Q8_0)
            && self.outputs.is_multiple_of(16)
            && self.inputs.is_multiple_of(256)
    }
}

/// By the own kernel, with input rounded to bytes.
fn multiply_rounded(input: &Matrix, weights: &Packed, kernel: Kernel) -> Matrix {
    let mut output = Matrix::zeros(input.rows(), weights.outputs());
    let shared = SharedRows::new(output.data_mut(), weights.outputs());
    let rounded = RoundedRows::new(input.data(), input.width());
    pool::for_each(weights.strips(), |strip| {
        let (strips, target) = (strip..strip + 1, shared.target(0));
        // SAFETY: this CPU has the kernel, and each strip has its own columns of the output.
        unsafe { quantized::multiply(kernel, &rounded, weights, strips, target) };
    });
    output
}

fn multiply_by_candle(
    input: &Matrix,
    weights: &QTensor,
    outputs: usize,
) -> candle_core::Result<Matrix> {
    let layout = Layout::contiguous((input.rows(), input.width()));
    match weights.cpu_fwd(input.storage(), &layout)? {
        (CpuStorage::F32(data), _) => Ok(Matrix::new(data, outputs)),
        _ => candle_core::bail!("a product of floats is no floats"),
    }
}

fn multiply_widened(
    input: &Matrix,
    weights: &QTensor,
    outputs: usize,
) -> candle_core::Result<Matrix> {
    let width = input.width();
    let mut output = Matrix::zeros(input.rows(), outputs);
    let shared = SharedRows::new(output.data_mut(), outputs);
    pool::try_for_each(outputs.div_ceil(PANEL), |panel| {
        let (from, to) = (panel * PANEL, outputs.min((panel + 1) * PANEL));
        let multiply = |panel: &[f32]| {
            let [left, right] = [input.data(), panel].map(|data| Rows { data, width });
            // SAFETY: each panel has its own columns of the output.
            unsafe { gemm::times_transposed(left, right, shared.target(from)) };
        };
        let panel = rows_as_floats(weights, from, to)?;
        let (storage, _) = panel.storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(panel)) => multiply(panel),
            _ => candle_core::bail!("weights on the CPU are widened elsewhere"),
        }
        Ok(())
    })?;
    Ok(output)
}
