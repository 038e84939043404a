//! Prepares queries, keys and values for attention.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb;

use super::{Tensors, normed};
use crate::{
    compute::Heads,
    config::{Config, Rope, RopeLayout, Turns},
    decoder::Norm,
};

/// The same as [`Turns`], with a copy on the device.
#[derive(Default)]
pub struct DeviceTurns {
    turns: Turns,
    /// Cosines and sines: `[tokens, 1, pairs]`.
    copied: Option<[Tensor; 2]>,
}

impl DeviceTurns {
    pub fn compute(&mut self, rope: &Rope, positions: &[u32], device: &Device) -> Result<()> {
        self.turns.compute(rope, positions);
        let shape = (positions.len(), 1, rope.frequencies.len());
        let copy = |numbers| Tensor::from_slice(numbers, shape, device);
        self.copied = Some([copy(self.turns.cos())?, copy(self.turns.sin())?]);
        Ok(())
    }

    /// Rotates each token's heads: `[tokens, heads, head]`.
    fn apply(&self, rope: &Rope, heads: &Tensor) -> Result<Tensor> {
        let Some([cos, sin]) = &self.copied else {
            candle_core::bail!("positions come before heads");
        };
        let (turned, head) = (2 * rope.frequencies.len(), heads.dim(2)?);
        // Each token becomes a batch of one, because candle takes separate cosines and sines for each batch.
        let turning = heads.narrow(2, 0, turned)?.unsqueeze(2)?.contiguous()?;
        let turning = match rope.layout {
            RopeLayout::Halves => rotary_emb::rope(&turning, cos, sin),
            RopeLayout::Pairs => rotary_emb::rope_i(&turning, cos, sin),
        };
        let turning = turning?.squeeze(2)?;
        match head - turned {
            0 => Ok(turning),
            rest => Tensor::cat(&[&turning, &heads.narrow(2, turned, rest)?], 2),
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
        heads.turns.apply(heads.rope, &part)
    };
    let (queries, keys) = (config.heads, config.kv_heads);
    Ok([
        positioned(part(0, queries)?, heads.query_norm)?,
        positioned(part(queries, keys)?, heads.key_norm)?,
        part(queries + keys, keys)?,
    ])
}
