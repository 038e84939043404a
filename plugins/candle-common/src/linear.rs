//! Linear layers over weights of every type.

use candle_core::{
    CpuStorage, CustomOp1, Layout, Storage,
    quantized::{GgmlDType, QTensor},
};
use tenon_plugin_api::{Code, Error, Result};

use crate::{
    kernels::{
        gemm::{self, Rows},
        quantized::{self, RoundedRows},
    },
    matrix::Matrix,
    pool::{self, SharedRows},
    weights::{
        Loader,
        quantize::{dimensions, rows_as_floats, stack},
    },
};

/// From so many rows of input on, quantized weights are widened to floats and multiplied as such, unless candle sorts them
/// for many rows: widening costs once, and float products are faster.
const WIDEN_QUANTIZED_FROM: usize = 24;
/// The same for weights of 16 and 32 bits, which cost little to widen.
const WIDEN_FLOATS_FROM: usize = 4;
/// Up to so many rows, the own kernel is faster than candle's with sorted weights.
const FEW_ROWS: usize = 3;
/// Outputs that one thread computes at once by the own kernel.
const OUTPUTS: usize = 64;
/// Rows of weights widened at once: they stay in the second cache.
const PANEL: usize = 128;

/// `output = input · weightsᵀ + bias`. Layers with the same input are one, their outputs side by side: the input is prepared
/// once for all.
pub struct Linear {
    /// Each `[outputs, inputs]`; more than one where the types differ.
    parts: Vec<QTensor>,
    outputs: usize,
    inputs: usize,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// The layers of these names as one.
    ///
    /// # Errors
    /// As [`Loader::matrix`].
    pub fn load(loader: &Loader, names: &[String]) -> Result<Self> {
        let matrices = names
            .iter()
            .map(|name| loader.matrix(name))
            .collect::<Result<Vec<_>>>()?;
        let (mut bias, mut biased, mut total) = (Vec::new(), false, 0);
        for (name, matrix) in names.iter().zip(&matrices) {
            let own = loader.source.bias(name)?;
            biased |= own.is_some();
            total += outputs(matrix)?;
            bias.extend(own.unwrap_or_default());
            bias.resize(total, 0.0);
        }
        Self::new(matrices, biased.then_some(bias))
    }

    /// These weights, one below the other.
    ///
    /// # Errors
    /// If their widths differ.
    pub fn new(matrices: Vec<QTensor>, bias: Option<Vec<f32>>) -> Result<Self> {
        let mut parts = Vec::new();
        for alike in matrices.chunk_by(|a, b| a.dtype() == b.dtype()) {
            parts.push(stack(alike)?);
        }
        let (mut outputs, mut inputs) = (0, 0);
        for part in &parts {
            let (more, own) = dimensions(part)?;
            (outputs, inputs) = (outputs + more, own);
        }
        Ok(Self {
            parts,
            outputs,
            inputs,
            bias,
        })
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn weights(&self) -> &[QTensor] {
        &self.parts
    }

    pub fn parameters(&self) -> u64 {
        let counts = self.parts.iter().map(|part| part.shape().elem_count());
        counts.sum::<usize>() as u64
    }

    pub fn bytes(&self) -> u64 {
        let bytes = self.parts.iter().map(QTensor::storage_size_in_bytes);
        bytes.sum::<usize>() as u64
    }

    /// # Errors
    /// `INTERNAL` for what candle refuses.
    pub fn forward(&self, input: &Matrix) -> Result<Matrix> {
        let mut output = match self.parts.as_slice() {
            [weights] => multiply(input, weights)?,
            parts => {
                let mut output = Matrix::zeros(input.rows(), self.outputs);
                let mut column = 0;
                for weights in parts {
                    let part = multiply(input, weights)?;
                    copy_columns(&part, &mut output, column);
                    column += part.width();
                }
                output
            }
        };
        if let Some(bias) = &self.bias {
            pool::for_each_row(output.data_mut(), self.outputs, |_, row| {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            });
        }
        Ok(output)
    }
}

fn outputs(matrix: &QTensor) -> Result<usize> {
    dimensions(matrix).map(|(outputs, _)| outputs)
}

fn multiply(input: &Matrix, weights: &QTensor) -> Result<Matrix> {
    let (outputs, inputs) = dimensions(weights)?;
    if inputs != input.width() {
        return Err(Error::invalid(format!(
            "weights for {inputs} inputs got {}: the model's files do not fit its configuration",
            input.width()
        )));
    }
    let result = match way(input.rows(), weights.dtype(), outputs, inputs) {
        Way::Widened => multiply_widened(input, weights, outputs),
        Way::Rounded => multiply_rounded(input, weights, outputs),
        Way::Candle => multiply_by_candle(input, weights, outputs),
    };
    result.map_err(|error| {
        Error::new(
            Code::INTERNAL,
            format!("candle could not multiply: {error}"),
        )
    })
}

/// How a product is computed.
enum Way {
    /// With weights widened to floats.
    Widened,
    /// With input rounded to bytes, by the own kernel.
    Rounded,
    Candle,
}

fn way(rows: usize, kind: GgmlDType, outputs: usize, inputs: usize) -> Way {
    let is_float = matches!(kind, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
    let sorted = is_sorted(kind, outputs, inputs);
    let widen_from = if is_float {
        WIDEN_FLOATS_FROM
    } else {
        WIDEN_QUANTIZED_FROM
    };
    if rows >= widen_from && !sorted {
        Way::Widened
    } else if quantized::serves(kind) && (rows <= FEW_ROWS || !sorted) {
        Way::Rounded
    } else {
        Way::Candle
    }
}

/// Whether candle sorts such weights for products of many rows.
fn is_sorted(kind: GgmlDType, outputs: usize, inputs: usize) -> bool {
    matches!(kind, GgmlDType::Q4K | GgmlDType::Q6K | GgmlDType::Q8_0)
        && outputs.is_multiple_of(16)
        && inputs.is_multiple_of(256)
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
    let bytes = weights.data()?;
    let floats = (weights.dtype() == GgmlDType::F32).then(|| as_floats(&bytes));
    pool::try_for_each(outputs.div_ceil(PANEL), |panel| {
        let (from, to) = (panel * PANEL, outputs.min((panel + 1) * PANEL));
        let multiply = |panel: &[f32]| {
            let [left, right] = [input.data(), panel].map(|data| Rows { data, width });
            // SAFETY: each panel has its own columns of the output.
            unsafe { gemm::times_transposed(left, right, shared.target(from)) };
        };
        if let Some(floats) = floats {
            multiply(&floats[from * width..to * width]);
            return Ok(());
        }
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

fn multiply_rounded(
    input: &Matrix,
    weights: &QTensor,
    outputs: usize,
) -> candle_core::Result<Matrix> {
    let mut output = Matrix::zeros(input.rows(), outputs);
    let shared = SharedRows::new(output.data_mut(), outputs);
    let rounded = RoundedRows::new(input.data(), input.width());
    let (bytes, kind) = (weights.data()?, weights.dtype());
    let row_bytes = input.width() / kind.block_size() * kind.type_size();
    pool::for_each(outputs.div_ceil(OUTPUTS), |part| {
        let (from, to) = (part * OUTPUTS, outputs.min((part + 1) * OUTPUTS));
        let weights = &bytes[from * row_bytes..to * row_bytes];
        // SAFETY: each part has its own columns of the output.
        unsafe { quantized::multiply(&rounded, weights, kind, shared.target(from)) };
    });
    Ok(output)
}

/// The numbers in the bytes of a matrix of 32 bits.
fn as_floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: every pattern of bits is a number.
    let (before, floats, after) = unsafe { bytes.align_to() };
    // candle keeps them as numbers, so they are aligned.
    assert!(before.is_empty() && after.is_empty());
    floats
}

fn copy_columns(from: &Matrix, to: &mut Matrix, column: usize) {
    let width = to.width();
    for (from, to) in from
        .data()
        .chunks_exact(from.width())
        .zip(to.data_mut().chunks_exact_mut(width))
    {
        to[column..][..from.len()].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    const INPUTS: usize = 96;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        let number = |at| ((at * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        (0..len).map(number).collect()
    }

    fn weights(outputs: usize, kind: GgmlDType) -> QTensor {
        let tensor = Tensor::from_vec(
            numbers(outputs * INPUTS, outputs),
            (outputs, INPUTS),
            &Device::Cpu,
        );
        QTensor::quantize(&tensor.unwrap(), kind).unwrap()
    }

    /// The sums as they are defined, over the weights as they were rounded.
    fn expected(row: &[f32], weights: &QTensor) -> Vec<f32> {
        let weights = weights.dequantize(&Device::Cpu).unwrap();
        let products = weights.to_vec2::<f32>().unwrap().into_iter();
        products
            .map(|weights| weights.iter().zip(row).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn check(linear: &Linear, parts: &[QTensor], rows: usize, tolerance: f32) {
        let input = Matrix::new(numbers(rows * INPUTS, 5), INPUTS);
        let output = linear.forward(&input).unwrap();
        for row in 0..rows {
            let sums = parts.iter().flat_map(|part| expected(input.row(row), part));
            for (at, (got, expected)) in output.row(row).iter().zip(sums).enumerate() {
                let bias = linear.bias.as_ref().map_or(0.0, |bias| bias[at]);
                let apart = (got - expected - bias).abs();
                assert!(
                    apart < tolerance,
                    "row {row} of {rows}, {at}: {apart} apart"
                );
            }
        }
    }

    #[test]
    fn few_rows_and_many_give_the_same_sums() {
        let kinds = [
            (GgmlDType::F32, 1e-4),
            (GgmlDType::BF16, 0.1),
            (GgmlDType::Q4_1, 0.2),
            (GgmlDType::Q8_0, 0.2),
        ];
        for (kind, tolerance) in kinds {
            // Wider than a panel, and no multiple of it.
            let linear = Linear::new(vec![weights(300, kind)], None).unwrap();
            for rows in [1, 6, WIDEN_QUANTIZED_FROM, 70] {
                check(&linear, &[weights(300, kind)], rows, tolerance);
            }
        }
    }

    #[test]
    fn layers_of_one_input_stand_side_by_side() {
        let parts = || {
            vec![
                weights(40, GgmlDType::F32),
                weights(20, GgmlDType::F32),
                weights(24, GgmlDType::Q8_0),
            ]
        };
        let linear = Linear::new(parts(), Some(numbers(84, 3))).unwrap();
        assert_eq!(
            (linear.weights().len(), linear.outputs(), linear.inputs()),
            (2, 84, INPUTS)
        );
        for rows in [1, 3, 50] {
            check(&linear, &parts(), rows, 0.2);
        }
        let narrow = Matrix::zeros(2, INPUTS / 2);
        assert!(linear.forward(&narrow).is_err());
    }
}
