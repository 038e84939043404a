//! Prepares queries, keys and values for attention.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb;

use super::{Tensors, normed};
use crate::{
    compute::Heads,
    config::{Config, CosSin, Rope, RopeLayout},
    layers::Norm,
};

/// The same as [`CosSin`], with a copy on the device.
#[derive(Default)]
pub struct DeviceCosSin {
    numbers: CosSin,
    /// Cosines and sines: `[tokens, 1, pairs]`.
    copied: Option<[Tensor; 2]>,
}

impl DeviceCosSin {
    pub fn compute(&mut self, rope: &Rope, positions: &[u32], device: &Device) -> Result<()> {
        self.numbers.compute(rope, positions);
        let shape = (positions.len(), 1, rope.frequencies.len());
        let copy = |numbers| Tensor::from_slice(numbers, shape, device);
        self.copied = Some([copy(self.numbers.cos())?, copy(self.numbers.sin())?]);
        Ok(())
    }

    /// Rotates each token's heads: `[tokens, heads, head]`.
    fn apply(&self, rope: &Rope, heads: &Tensor) -> Result<Tensor> {
        let Some([cos, sin]) = &self.copied else {
            candle_core::bail!("positions come before heads");
        };
        let (rotated, head) = (2 * rope.frequencies.len(), heads.dim(2)?);
        // Each token becomes a batch of one, because candle takes separate cosines and sines for each batch.
        let rotating = heads.narrow(2, 0, rotated)?.unsqueeze(2)?.contiguous()?;
        let rotating = match rope.layout {
            RopeLayout::Halves => rotary_emb::rope(&rotating, cos, sin),
            RopeLayout::Pairs => rotary_emb::rope_i(&rotating, cos, sin),
        };
        let rotating = rotating?.squeeze(2)?;
        match head - rotated {
            0 => Ok(rotating),
            rest => Tensor::cat(&[&rotating, &heads.narrow(2, rotated, rest)?], 2),
        }
    }
}

/// Splits rows into queries, keys and values, each `[tokens, heads, head]`. Queries and keys are normalized and rotated.
pub fn split(config: &Config, heads: &Heads<Tensors>, qkv: &Tensor) -> Result<[Tensor; 3]> {
    let tokens = qkv.dim(0)?;
    let part = |first: usize, count: usize| {
        let columns = qkv.narrow(1, first * config.head, count * config.head)?;
        columns.reshape((tokens, count, config.head))
    };
    let positioned = |part: Tensor, norm: Option<&Norm<Tensors>>| {
        let part = match norm {
            Some(norm) => normed(&part, norm)?,
            None => part,
        };
        heads.cos_sin.apply(heads.rope, &part)
    };
    let (queries, keys) = (config.heads, config.kv_heads);
    Ok([
        positioned(part(0, queries)?, heads.query_norm)?,
        positioned(part(queries, keys)?, heads.key_norm)?,
        part(queries + keys, keys)?,
    ])
}
