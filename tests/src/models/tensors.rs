//! Tensors with random numbers, by their names in GGUF files.

use std::{fs::File, io::BufWriter, path::Path};

use candle_core::{
    Device, Result, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file, gguf_file::Value},
};

use super::random::Random;

/// A tensor to make.
pub struct RandomWeight {
    pub name: String,
    /// The last dimension is the one that is consecutive in memory.
    dims: Vec<usize>,
    mean: f32,
    spread: f32,
}

impl RandomWeight {
    /// The same tensor under a longer name.
    pub fn prefixed(self, prefix: &str) -> Self {
        let name = format!("{prefix}{}", self.name);
        Self { name, ..self }
    }
}

pub fn weight(name: &str, dims: &[usize], mean: f32, spread: f32) -> RandomWeight {
    RandomWeight {
        name: name.to_owned(),
        dims: dims.to_vec(),
        mean,
        spread,
    }
}

pub fn embedding(name: &str, dims: &[usize]) -> RandomWeight {
    weight(name, dims, 0.0, 0.5)
}

pub fn norm(name: &str, len: usize) -> RandomWeight {
    weight(name, &[len], 1.0, 0.1)
}

pub fn bias(name: &str, len: usize) -> RandomWeight {
    weight(name, &[len], 0.0, 0.5)
}

/// A matrix whose products are about as large as its input.
pub fn matrix(name: &str, dims: &[usize]) -> RandomWeight {
    weight(name, dims, 0.0, (dims[1] as f32).sqrt().recip())
}

/// The tensors of weights, in f32, with their names.
pub fn random_tensors(weights: &[RandomWeight], seed: u64) -> Result<Vec<(String, Tensor)>> {
    let mut random = Random::new(seed);
    let tensors = weights.iter().map(|weight| {
        let count = weight.dims.iter().product();
        let numbers = (0..count).map(|_| weight.mean + weight.spread * random.number());
        let numbers: Vec<f32> = numbers.collect();
        let tensor = Tensor::from_vec(numbers, weight.dims.clone(), &Device::Cpu)?;
        Ok((weight.name.clone(), tensor))
    });
    tensors.collect()
}

/// Writes a GGUF file in f32.
pub fn write_tensors(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let quantize = |(name, tensor): &(String, Tensor)| {
        Ok((name.clone(), QTensor::quantize(tensor, GgmlDType::F32)?))
    };
    let tensors = tensors.iter().map(quantize).collect::<Result<Vec<_>>>()?;
    write_gguf(path, metadata, &tensors)
}

/// Writes a GGUF file with tensors in the types that they have.
pub fn write_gguf(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, QTensor)],
) -> Result<()> {
    let metadata: Vec<_> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = BufWriter::new(File::create(path)?);
    gguf_file::write(&mut file, &metadata, &tensors)
}
