//! Changes the precision of weights.

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QStorage, QTensor},
};
use tenon_plugin_api::{
    Error, Result,
    levels::{self, TensorType},
};

use super::{CANDLE_TYPES, candle_error, candle_type, type_name};
use crate::pool;

/// Rows that a thread converts at a time.
const ROWS: usize = 256;

/// Quantizes matrices to a level, each to the type that fits its rows.
pub struct Quantizer {
    tensor: TensorType,
    /// How many matrices got another type than the level's, because their rows do not divide into its blocks.
    fallbacks: Cell<u32>,
}

impl Quantizer {
    /// A quantizer to a level in any spelling.
    ///
    /// # Errors
    /// `INVALID` if there is no such level, `UNSUPPORTED` if candle does not have it.
    pub fn new(level: &str) -> Result<Self> {
        let offered = offered();
        let level = levels::choose(level, &offered)?;
        let tensor = levels::find(level).map(|level| level.tensor);
        Ok(Self {
            tensor: tensor.ok_or_else(|| Error::unsupported(level))?,
            fallbacks: Cell::new(0),
        })
    }

    /// The level's name, as in lists of levels.
    pub fn level(&self) -> &'static str {
        self.tensor.name
    }

    /// The type of most of the converted matrices.
    pub fn tensor(&self) -> TensorType {
        self.tensor
    }

    /// How many matrices so far got another type than the level's.
    pub fn fallbacks(&self) -> u32 {
        self.fallbacks.get()
    }

    /// The same matrix in the type that suits its name and shape.
    ///
    /// # Errors
    /// For weights that candle cannot read.
    pub fn apply(&self, name: &str, matrix: QTensor) -> Result<QTensor> {
        let (_, width) = dimensions(&matrix)?;
        let wanted = self.for_name(name);
        let fitting = wanted.fitting(width as u64);
        if fitting != wanted {
            self.fallbacks.set(self.fallbacks.get() + 1);
        }
        let kind = candle_type(fitting).ok_or_else(|| Error::unsupported(fitting.name))?;
        convert(matrix, kind)
    }

    /// The type for a tensor of this name. The output layer decides between tokens: like in llama.cpp, it never gets less
    /// than six bits.
    fn for_name(&self, name: &str) -> TensorType {
        let output = levels::find("Q6_K").map(|level| level.tensor);
        match output {
            Some(output)
                if matches!(name, "output" | "token_embd")
                    && self.tensor.bits_per_weight() < output.bits_per_weight() =>
            {
                output
            }
            _ => self.tensor,
        }
    }
}

/// Every level that weights can be quantized to, from the most to the least faithful.
pub fn offered() -> Vec<&'static str> {
    let names = CANDLE_TYPES.iter().map(|&kind| type_name(kind));
    let mut levels: Vec<_> = names.filter_map(levels::find).collect();
    levels.sort_by_key(|level| level.rank());
    // Q8_K is candle's internal format for activations.
    levels.retain(|level| level.name != "Q8_K");
    levels.iter().map(|level| level.name).collect()
}

/// Converts a matrix to another type.
///
/// # Errors
/// If the matrix's rows do not divide into the type's blocks.
pub fn convert(matrix: QTensor, kind: GgmlDType) -> Result<QTensor> {
    if matrix.dtype() == kind {
        return Ok(matrix);
    }
    let (rows, width) = dimensions(&matrix)?;
    let row_bytes = width / kind.block_size() * kind.type_size();
    let parts: Vec<_> = (0..rows.div_ceil(ROWS)).map(|_| Mutex::default()).collect();
    pool::try_for_each_apart(parts.len(), |part| {
        let first = part * ROWS;
        let converted = convert_rows(&matrix, first, rows.min(first + ROWS), kind)?;
        *parts[part].lock().unwrap_or_else(PoisonError::into_inner) = converted;
        Ok::<_, Error>(())
    })?;
    let mut bytes = Vec::with_capacity(rows * row_bytes);
    for part in parts {
        bytes.extend(part.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    from_bytes(bytes, kind, rows, width)
}

/// Stacks matrices of one type and width, one below the other.
///
/// # Errors
/// If they differ in width.
pub fn stack(matrices: Vec<QTensor>) -> Result<QTensor> {
    let matrices = match <[QTensor; 1]>::try_from(matrices) {
        Ok([matrix]) => return Ok(matrix),
        Err(matrices) => matrices,
    };
    let mut bytes = Vec::new();
    let (mut rows, mut width) = (0, 0);
    for matrix in &matrices {
        let (more, own) = dimensions(matrix)?;
        if width != 0 && own != width {
            return Err(Error::invalid(format!(
                "weights for {width} and for {own} inputs cannot share them"
            )));
        }
        (rows, width) = (rows + more, own);
        bytes.extend_from_slice(
            &matrix
                .data()
                .map_err(|e| candle_error("reading weights", &e))?,
        );
    }
    from_bytes(bytes, matrices[0].dtype(), rows, width)
}

/// Number of rows, and their width.
///
/// # Errors
/// `INVALID` for tensors that are not matrices.
pub fn dimensions(matrix: &QTensor) -> Result<(usize, usize)> {
    let error = |error| candle_error("a tensor of weights is no matrix", &error);
    matrix.shape().dims2().map_err(error)
}

/// Some rows as floats: `[(to - from), width]`.
///
/// # Errors
/// For rows that do not exist.
pub fn rows_as_floats(matrix: &QTensor, from: usize, to: usize) -> candle_core::Result<Tensor> {
    matrix.embedding(&Tensor::arange(from as u32, to as u32, &Device::Cpu)?)
}

fn convert_rows(matrix: &QTensor, from: usize, to: usize, kind: GgmlDType) -> Result<Vec<u8>> {
    let convert = || {
        let floats = rows_as_floats(matrix, from, to)?;
        QTensor::quantize(&floats, kind)?
            .data()
            .map(|bytes| bytes.into_owned())
    };
    convert().map_err(|error| candle_error("converting weights", &error))
}

fn from_bytes(bytes: Vec<u8>, kind: GgmlDType, rows: usize, width: usize) -> Result<QTensor> {
    QStorage::from_data(bytes.into(), &Device::Cpu, kind)
        .and_then(|storage| QTensor::new(storage, (rows, width)))
        .map_err(|error| candle_error("making a matrix of weights", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, width: usize) -> QTensor {
        let numbers: Vec<_> = (0..rows * width)
            .map(|n| ((n * 37 % 101) as f32 - 50.0) / 25.0)
            .collect();
        let tensor = Tensor::from_vec(numbers, (rows, width), &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
    }

    fn floats(matrix: &QTensor) -> Vec<f32> {
        let tensor = matrix.dequantize(&Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_offered_level_keeps_about_what_was_there() {
        for level in offered() {
            let quantizer = Quantizer::new(level).unwrap();
            let quantized = quantizer.apply("blk.0.attn_q", matrix(300, 256)).unwrap();
            assert_eq!(type_name(quantized.dtype()), level);
            let errors = floats(&quantized)
                .into_iter()
                .zip(floats(&matrix(300, 256)));
            let mean = errors.map(|(a, b)| (a - b).abs()).sum::<f32>() / (300.0 * 256.0);
            assert!(mean < 0.3, "{level}: {mean}");
            assert_eq!(quantizer.fallbacks(), 0);
        }
    }

    #[test]
    fn rows_that_do_not_divide_get_another_type_and_the_output_more_bits() {
        let quantizer = Quantizer::new("q4k").unwrap();
        let kind = |name, width| quantizer.apply(name, matrix(2, width)).unwrap().dtype();
        assert_eq!(kind("blk.0.attn_q", 512), GgmlDType::Q4K);
        assert_eq!(kind("output", 512), GgmlDType::Q6K);
        assert_eq!(kind("blk.0.attn_q", 96), GgmlDType::Q5_0);
        assert_eq!(kind("token_embd", 96), GgmlDType::Q8_0);
        assert_eq!(quantizer.fallbacks(), 2);
        assert!(Quantizer::new("IQ2_S").is_err() && Quantizer::new("Q9").is_err());
    }

    #[test]
    fn stacked_rows_stand_below_each_other() {
        let stacked = stack(vec![matrix(2, 8), matrix(3, 8)]).unwrap();
        assert_eq!(dimensions(&stacked).unwrap(), (5, 8));
        assert_eq!(floats(&stacked)[16..], floats(&matrix(3, 8)));
        assert!(stack(vec![matrix(2, 8), matrix(2, 16)]).is_err());
        let single = stack(vec![matrix(3, 8)]).unwrap();
        assert_eq!(floats(&single), floats(&matrix(3, 8)));
    }
}
