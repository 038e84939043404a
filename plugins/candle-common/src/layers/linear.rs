//! Linear layers over weights of every tensor type.

use std::iter;

use candle_core::quantized::QTensor;
use tenon_plugin_api::Result;

use super::{Hardware, WeightMatrix};
use crate::{
    kernels::memory::Arena,
    weights::{
        TensorLoader,
        quantize::{dimensions, stack},
    },
};

/// `output = input · weightsᵀ + bias`. Layers with the same input are merged, with their outputs side by side: the input is
/// prepared once for all of them.
pub struct Linear<H: Hardware> {
    /// Weights of one type each: more than one if the layers' types differ.
    parts: Vec<H::Weights>,
    outputs: usize,
    inputs: usize,
    bias: Option<H::Vector>,
}

impl<H: Hardware> Linear<H> {
    /// Loads the layers of these names as one.
    ///
    /// # Errors
    /// As [`TensorLoader::matrix`].
    pub fn load(hardware: &H, loader: &TensorLoader, names: &[String]) -> Result<Self> {
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
        let bias = biased.then_some(bias);
        Self::new(hardware, matrices, bias, &loader.arena)
    }

    /// A layer of these weights, one below the other.
    ///
    /// # Errors
    /// If their numbers of inputs differ.
    pub fn new(
        hardware: &H,
        matrices: Vec<QTensor>,
        bias: Option<Vec<f32>>,
        arena: &Arena,
    ) -> Result<Self> {
        let mut parts = Vec::new();
        let mut matrices = matrices.into_iter().peekable();
        while let Some(first) = matrices.next() {
            let kind = first.dtype();
            let mut alike = vec![first];
            alike.extend(iter::from_fn(|| {
                matrices.next_if(|next| next.dtype() == kind)
            }));
            parts.push(hardware.weights(stack(alike)?, arena)?);
        }
        let (mut outputs, mut inputs) = (0, 0);
        for part in &parts {
            outputs += part.outputs();
            inputs = part.inputs();
        }
        Ok(Self {
            parts,
            outputs,
            inputs,
            bias: bias.map(|bias| hardware.vector(bias)).transpose()?,
        })
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn parts(&self) -> &[H::Weights] {
        &self.parts
    }

    pub fn parameters(&self) -> u64 {
        (self.outputs * self.inputs) as u64
    }

    pub fn bytes(&self) -> u64 {
        let bytes = self.parts.iter().map(WeightMatrix::bytes);
        bytes.sum::<usize>() as u64
    }

    pub fn bias(&self) -> Option<&H::Vector> {
        self.bias.as_ref()
    }
}

fn outputs(matrix: &QTensor) -> Result<usize> {
    dimensions(matrix).map(|(outputs, _)| outputs)
}
