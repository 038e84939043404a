//! Weights in memory, and the products with them.

use std::cell::RefCell;

use candle_core::{
    CpuStorage, CustomOp1, Device, Layout, Storage, Tensor,
    quantized::{GgmlDType, QTensor},
};
use tenon_plugin_api::{Code, Error, Result};

use super::floats::FloatWeights;
use crate::{
    kernels::{
        gemm::{self, MatrixView},
        memory::Arena,
        quantized::{self, Kernel, Packed, RoundedRows},
    },
    layers::WeightMatrix,
    matrix::Matrix,
    pool::{self, SharedRows},
    weights::{
        candle_error,
        quantize::{dimensions, rows_as_floats},
    },
};

/// Quantized weights without a kernel of this crate are widened to floats if the input has at least this many rows, unless
/// candle sorts them for many rows. Widening costs once, and float products are faster.
const WIDEN_FROM: usize = 24;
/// Rows of weights that are widened at once: they stay in the L2 cache.
const PANEL: usize = 128;

/// Weights of one type: `[outputs, inputs]`.
pub struct CpuWeights {
    kind: GgmlDType,
    outputs: usize,
    inputs: usize,
    weights: CpuForm,
}

/// The form that the kernel for the weights' type needs.
enum CpuForm {
    /// For a kernel of this crate, which was chosen when the weights were loaded.
    Packed(Packed, Kernel),
    Floats(FloatWeights),
    /// In the form that files have. candle keeps a copy of some types, sorted for products of many rows.
    Candle(QTensor),
}

impl CpuForm {
    fn new(matrix: QTensor, inputs: usize, arena: &Arena) -> candle_core::Result<Self> {
        if let Some(floats) = FloatWeights::new(&matrix, arena)? {
            return Ok(Self::Floats(floats));
        }
        let packed = match quantized::kernel(matrix.dtype()) {
            Some(kernel) => Packed::new(&matrix.data()?, matrix.dtype(), inputs, arena)?
                .map(|packed| (packed, kernel)),
            None => None,
        };
        Ok(match packed {
            Some((packed, kernel)) => Self::Packed(packed, kernel),
            None => Self::Candle(matrix),
        })
    }
}

impl CpuWeights {
    /// # Errors
    /// If `matrix` has not two dimensions.
    pub fn new(matrix: QTensor, arena: &Arena) -> Result<Self> {
        let (outputs, inputs) = dimensions(&matrix)?;
        let kind = matrix.dtype();
        let weights = CpuForm::new(matrix, inputs, arena);
        Ok(Self {
            kind,
            outputs,
            inputs,
            weights: weights.map_err(|error| candle_error("reading weights", &error))?,
        })
    }

    /// Reads the weights of some outputs, one row for each.
    ///
    /// # Errors
    /// For outputs that do not exist.
    pub fn read_rows(&self, outputs: &[u32], to: &mut Matrix) -> Result<()> {
        if let Some(wrong) = outputs
            .iter()
            .find(|&&output| output as usize >= self.outputs)
        {
            return Err(Error::invalid(format!(
                "weights of {} outputs have no row {wrong}",
                self.outputs
            )));
        }
        let to = to.restart(self.inputs);
        match &self.weights {
            CpuForm::Packed(weights, _) => {
                let rows = outputs.iter().map(|&output| weights.row(output as usize));
                to.extend(rows.flatten());
            }
            CpuForm::Floats(weights) => {
                for &output in outputs {
                    weights.read_row(output as usize, self.inputs, to);
                }
            }
            CpuForm::Candle(weights) => {
                let rows = Tensor::new(outputs, &Device::Cpu)
                    .and_then(|outputs| weights.embedding(&outputs))
                    .and_then(|rows| rows.flatten_all()?.to_vec1());
                *to = rows.map_err(|error| candle_error("reading weights", &error))?;
            }
        }
        Ok(())
    }

    /// Writes `input · weightsᵀ` into the columns of `output` from `column` on.
    ///
    /// # Errors
    /// `INVALID` for input of another width; `INTERNAL` for errors of candle.
    pub fn multiply(&self, input: &Matrix, output: &SharedRows, column: usize) -> Result<()> {
        if self.inputs != input.width() {
            return Err(Error::invalid(format!(
                "weights for {} inputs got {}: the model's files do not fit its configuration",
                self.inputs,
                input.width()
            )));
        }
        let result = match &self.weights {
            CpuForm::Packed(weights, kernel) => {
                multiply_rounded(input, weights, *kernel, output, column);
                Ok(())
            }
            CpuForm::Floats(weights) => {
                weights.multiply(input, output, column);
                Ok(())
            }
            CpuForm::Candle(weights) if input.rows() >= WIDEN_FROM && !self.is_sorted() => {
                self.multiply_widened(input, weights, output, column)
            }
            CpuForm::Candle(weights) => self.multiply_by_candle(input, weights, output, column),
        };
        result.map_err(|error| {
            Error::new(
                Code::INTERNAL,
                format!("candle could not multiply: {error}"),
            )
        })
    }

    fn multiply_by_candle(
        &self,
        input: &Matrix,
        weights: &QTensor,
        output: &SharedRows,
        column: usize,
    ) -> candle_core::Result<()> {
        let layout = Layout::contiguous((input.rows(), input.width()));
        let (CpuStorage::F32(products), _) = weights.cpu_fwd(input.storage(), &layout)? else {
            candle_core::bail!("a product of floats is no floats");
        };
        for (row, products) in products.chunks_exact(self.outputs).enumerate() {
            // SAFETY: nobody else uses the output meanwhile.
            let to = unsafe { output.part(row, column, self.outputs) };
            to.copy_from_slice(products);
        }
        Ok(())
    }

    fn multiply_widened(
        &self,
        input: &Matrix,
        weights: &QTensor,
        output: &SharedRows,
        column: usize,
    ) -> candle_core::Result<()> {
        let width = input.width();
        pool::try_for_each(self.outputs.div_ceil(PANEL), |panel| {
            let (from, to) = (panel * PANEL, self.outputs.min((panel + 1) * PANEL));
            let panel = rows_as_floats(weights, from, to)?;
            let (storage, _) = panel.storage_and_layout();
            let Storage::Cpu(CpuStorage::F32(panel)) = &*storage else {
                candle_core::bail!("weights on the CPU are widened elsewhere");
            };
            let [left, right] = [input.data(), panel].map(|data| MatrixView { data, width });
            // SAFETY: each panel has its own columns of the output.
            unsafe { gemm::times_transposed(left, right, output.target(column + from)) };
            Ok(())
        })
    }

    /// Whether candle sorts such weights for products of many rows.
    fn is_sorted(&self) -> bool {
        matches!(self.kind, GgmlDType::Q4K | GgmlDType::Q6K | GgmlDType::Q8_0)
            && self.outputs.is_multiple_of(16)
            && self.inputs.is_multiple_of(256)
    }
}

impl WeightMatrix for CpuWeights {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn bytes(&self) -> usize {
        match &self.weights {
            CpuForm::Packed(weights, _) => weights.bytes(),
            CpuForm::Floats(weights) => weights.bytes(),
            CpuForm::Candle(weights) => weights.storage_size_in_bytes(),
        }
    }

    fn uses_candles_threads(&self) -> bool {
        matches!(self.weights, CpuForm::Candle(_))
    }
}

/// Multiplies with a kernel of this crate. The input is rounded to bytes.
fn multiply_rounded(
    input: &Matrix,
    weights: &Packed,
    kernel: Kernel,
    output: &SharedRows,
    column: usize,
) {
    thread_local!(static ROUNDED: RefCell<RoundedRows> = RefCell::default());
    ROUNDED.with_borrow_mut(|rounded| {
        rounded.round(input.data(), weights, kernel);
        let rounded = &*rounded;
        pool::for_parts(weights.strips(), |strips| {
            let target = output.target(column);
            // SAFETY: this CPU has the kernel, and each strip has its own columns of the output.
            unsafe { quantized::multiply(kernel, rounded, weights, strips, target) };
        });
    });
}
