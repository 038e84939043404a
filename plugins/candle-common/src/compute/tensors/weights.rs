//! Linear layers on a device.

use candle_core::{
    DType, Device, Module, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};

use super::{Tensors, computed};
use crate::{
    layers::{Linear, WeightMatrix},
    weights::quantize::dimensions,
};

/// Weights of one type: `[outputs, inputs]`.
pub struct DeviceWeights {
    outputs: usize,
    inputs: usize,
    bytes: usize,
    form: DeviceForm,
}

/// The form that candle multiplies with.
enum DeviceForm {
    Floats(Tensor),
    Quantized(QMatMul),
}

impl DeviceWeights {
    /// Copies weights to a device.
    ///
    /// # Errors
    /// `INVALID` if `matrix` is not a matrix; `NO_MEMORY`.
    pub fn new(matrix: QTensor, device: &Device) -> tenon_plugin_api::Result<Self> {
        let (outputs, inputs) = dimensions(&matrix)?;
        Ok(Self {
            outputs,
            inputs,
            bytes: matrix.storage_size_in_bytes(),
            form: computed(DeviceForm::new(&matrix, device))?,
        })
    }

    /// The rows of some tokens as floats: `[tokens, inputs]`.
    fn rows(&self, tokens: &Tensor) -> Result<Tensor> {
        match &self.form {
            DeviceForm::Floats(weights) => weights.index_select(tokens, 0)?.to_dtype(DType::F32),
            DeviceForm::Quantized(weights) => weights.embedding(tokens),
        }
    }

    /// `input · weightsᵀ` as floats. Weights of 16 bits are multiplied with input that is rounded to 16 bits.
    fn multiply(&self, input: &Tensor) -> Result<Tensor> {
        match &self.form {
            DeviceForm::Floats(weights) => {
                let input = input.to_dtype(weights.dtype())?;
                input.matmul(&weights.t()?)?.to_dtype(DType::F32)
            }
            DeviceForm::Quantized(weights) => weights.forward(input),
        }
    }
}

impl DeviceForm {
    fn new(matrix: &QTensor, device: &Device) -> Result<Self> {
        let floats = match matrix.dtype() {
            GgmlDType::F32 => Some(DType::F32),
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        };
        let (bytes, shape) = (matrix.data()?, matrix.shape());
        Ok(match floats {
            Some(kind) => {
                Self::Floats(Tensor::from_raw_buffer(&bytes, kind, shape.dims(), device)?)
            }
            None => {
                let storage = QStorage::from_data(bytes, device, matrix.dtype())?;
                Self::Quantized(QMatMul::from_qtensor(QTensor::new(
                    storage,
                    shape.clone(),
                )?)?)
            }
        })
    }
}

impl WeightMatrix for DeviceWeights {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn uses_candles_threads(&self) -> bool {
        false
    }
}

impl Linear<Tensors> {
    /// The weights of some outputs, one row for each.
    pub fn read_rows(&self, outputs: &Tensor) -> Result<Tensor> {
        match self.parts() {
            [part] => part.rows(outputs),
            _ => candle_core::bail!("rows of several types are not read"),
        }
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let products = self.parts().iter().map(|part| part.multiply(input));
        let products = match products.collect::<Result<Vec<_>>>()? {
            one if one.len() == 1 => one[0].clone(),
            several => Tensor::cat(&several, 1)?,
        };
        match self.bias() {
            Some(bias) => products.broadcast_add(bias),
            None => Ok(products),
        }
    }
}
