//! Products with weights that are floats of 16 or 32 bits.

use std::io;

use candle_core::quantized::{GgmlDType, QTensor};
use half::{bf16, f16};

use crate::{
    kernels::{
        element::Element,
        floats,
        gemm::MatrixView,
        memory::{Arena, Memory},
    },
    matrix::Matrix,
    pool::{self, SharedRows},
};

/// Rows of weights that a thread takes at once.
const PANEL: usize = 64;
/// Rows of input that are multiplied with a panel before the next block: they stay in the L2 cache.
const BLOCK: usize = 64;

/// Weights, row by row.
pub enum FloatWeights {
    F32(Memory<f32>),
    F16(Memory<f16>),
    BF16(Memory<bf16>),
}

impl FloatWeights {
    /// The weights as floats; None for weights of another type.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(matrix: &QTensor, arena: &Arena) -> candle_core::Result<Option<Self>> {
        let bytes = matrix.data()?;
        Ok(match matrix.dtype() {
            GgmlDType::F32 => Some(Self::F32(copied(&bytes, arena)?)),
            GgmlDType::F16 => Some(Self::F16(copied(&bytes, arena)?)),
            GgmlDType::BF16 => Some(Self::BF16(copied(&bytes, arena)?)),
            _ => None,
        })
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(numbers) => size_of_val(&**numbers),
            Self::F16(numbers) => size_of_val(&**numbers),
            Self::BF16(numbers) => size_of_val(&**numbers),
        }
    }

    /// Appends the weights of one output.
    pub fn read_row(&self, output: usize, width: usize, to: &mut Vec<f32>) {
        let (row, start) = (output * width..(output + 1) * width, to.len());
        to.resize(start + width, 0.0);
        let to = &mut to[start..];
        match self {
            Self::F32(numbers) => Element::widen(&numbers[row], to),
            Self::F16(numbers) => Element::widen(&numbers[row], to),
            Self::BF16(numbers) => Element::widen(&numbers[row], to),
        }
    }

    /// Writes `input · weightsᵀ` into the columns of `output` from `column` on.
    pub fn multiply(&self, input: &Matrix, output: &SharedRows, column: usize) {
        match self {
            Self::F32(numbers) => multiply(input, numbers, output, column),
            Self::F16(numbers) => multiply(input, numbers, output, column),
            Self::BF16(numbers) => multiply(input, numbers, output, column),
        }
    }
}

fn multiply<E: Element>(input: &Matrix, weights: &[E], output: &SharedRows, column: usize) {
    let (data, width) = (input.data(), input.width());
    let outputs = weights.len() / width;
    pool::for_each(outputs.div_ceil(PANEL), |panel| {
        let (from, to) = (panel * PANEL, outputs.min((panel + 1) * PANEL));
        let weights = &weights[from * width..to * width];
        let target = output.target(column + from);
        for (row, input) in (MatrixView { data, width }).chunks(BLOCK) {
            // SAFETY: each panel has its own columns of the output.
            unsafe { floats::times_transposed(input, weights, &target.at(row, 0)) };
        }
    });
}

/// Copies the numbers in the bytes of a matrix. candle stores them as numbers, so they are aligned.
fn copied<E: Element>(bytes: &[u8], arena: &Arena) -> io::Result<Memory<E>> {
    let numbers = bytemuck::cast_slice(bytes);
    let mut copy = arena.zeros(numbers.len())?;
    copy.copy_from_slice(numbers);
    Ok(copy)
}
