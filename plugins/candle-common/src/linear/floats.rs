//! Products with weights of 16 and 32 bits.

use candle_core::quantized::{GgmlDType, QTensor};
use half::{bf16, f16};

use crate::{
    kernels::{floats, gemm::Rows, huge_pages::zeros},
    kv::Element,
    matrix::Matrix,
    pool::{self, SharedRows},
};

/// Rows of weights that a thread takes at once.
const PANEL: usize = 32;
/// Rows of input that it multiplies with all of these before the next: they stay in the second cache.
const BLOCK: usize = 64;

/// Weights, row by row.
pub enum Floats {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Floats {
    /// None for weights of another type.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(matrix: &QTensor) -> candle_core::Result<Option<Self>> {
        let bytes = matrix.data()?;
        Ok(match matrix.dtype() {
            GgmlDType::F32 => Some(Self::F32(copied(&bytes))),
            GgmlDType::F16 => Some(Self::F16(copied(&bytes))),
            GgmlDType::BF16 => Some(Self::BF16(copied(&bytes))),
            _ => None,
        })
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(numbers) => size_of_val(numbers.as_slice()),
            Self::F16(numbers) => size_of_val(numbers.as_slice()),
            Self::BF16(numbers) => size_of_val(numbers.as_slice()),
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

    /// `input · weightsᵀ`
    pub fn multiply(&self, input: &Matrix, outputs: usize) -> Matrix {
        match self {
            Self::F32(numbers) => product(input, numbers, outputs),
            Self::F16(numbers) => product(input, numbers, outputs),
            Self::BF16(numbers) => product(input, numbers, outputs),
        }
    }
}

fn product<E: Element>(input: &Matrix, weights: &[E], outputs: usize) -> Matrix {
    let width = input.width();
    let mut output = Matrix::zeros(input.rows(), outputs);
    let shared = SharedRows::new(output.data_mut(), outputs);
    let data = input.data();
    pool::for_each(outputs.div_ceil(PANEL), |panel| {
        let (from, to) = (panel * PANEL, outputs.min((panel + 1) * PANEL));
        let (weights, target) = (&weights[from * width..to * width], shared.target(from));
        for (row, input) in (Rows { data, width }).chunks(BLOCK) {
            // SAFETY: each panel has its own columns of the output.
            unsafe { floats::times_transposed(input, weights, &target.at(row, 0)) };
        }
    });
    output
}

/// The numbers in the bytes of a matrix.
fn copied<E: Element>(bytes: &[u8]) -> Vec<E> {
    // SAFETY: elements are numbers of which every pattern of bits is one.
    let (before, numbers, after) = unsafe { bytes.align_to() };
    // candle keeps them as numbers, so they are aligned.
    assert!(before.is_empty() && after.is_empty());
    let mut copy = zeros(E::default(), numbers.len());
    copy.copy_from_slice(numbers);
    copy
}
