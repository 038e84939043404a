//! The decoder: embedding → blocks of attention and MLP → output. It keeps no state: keys and values are stored in a pool.

mod block;
mod buffers;
mod ropes;

#[cfg(test)]
mod tests;

use tenon_plugin_api::{Interrupt, Result};

use crate::{
    compute::{Compute, Layer, Step},
    config::Config,
    kernels::attention::SpanView,
    layers::{Linear, Norm, WeightMatrix},
    matrix::Matrix,
    weights::{TensorLoader, check_side},
};
use block::{Block, Pass};
pub use buffers::Buffers;
pub use ropes::Ropes;

/// A model's weights, and the computation with them.
pub struct Decoder<C: Compute> {
    compute: C,
    config: Config,
    /// `[vocabulary, hidden]`. It is also the output layer if the model has no other.
    embedding: Linear<C>,
    blocks: Vec<Block<C>>,
    norm: Norm<C>,
    output: Option<Linear<C>>,
}

/// Receives the finished fraction of a task. Its error stops the task.
pub type ReportFraction<'a> = dyn Fn(f32) -> Result<()> + 'a;

impl<C: Compute> Decoder<C> {
    /// Loads the weights.
    ///
    /// # Errors
    /// As [`TensorLoader::matrix`]; `INVALID` for tensors whose shapes do not fit the configuration; those of `report`.
    pub fn load(
        compute: C,
        config: Config,
        loader: &TensorLoader,
        report: &ReportFraction,
    ) -> Result<Self> {
        let output = match config.tied {
            true => None,
            false => loader.optional("output")?,
        };
        let embedding = match output {
            Some(_) => loader.unchanged("token_embd")?,
            None => loader.matrix("token_embd")?,
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            report(layer as f32 / config.layers as f32)?;
            blocks.push(Block::load(&compute, &config, loader, layer)?);
        }
        let linear = |weights| Linear::new(&compute, vec![weights], None, &loader.arena);
        let decoder = Self {
            embedding: linear(embedding)?,
            blocks,
            norm: Norm::load(&compute, &config, loader, "output_norm", config.hidden)?,
            output: output.map(linear).transpose()?,
            compute,
            config,
        };
        check_side(
            "token_embd",
            decoder.embedding.inputs(),
            decoder.config.hidden,
        )?;
        check_side("output", decoder.head().inputs(), decoder.config.hidden)?;
        check_side("output", decoder.head().outputs(), decoder.vocabulary())?;
        Ok(decoder)
    }

    pub fn compute(&self) -> &C {
        &self.compute
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Number of rows of the embedding, and length of a row of logits.
    pub fn vocabulary(&self) -> usize {
        self.embedding.outputs()
    }

    pub fn parameters(&self) -> u64 {
        self.matrices().map(Linear::parameters).sum()
    }

    pub fn weight_bytes(&self) -> u64 {
        self.matrices().map(Linear::bytes).sum()
    }

    /// Whether candle's own kernels compute with some of the weights. Those have threads of their own, whose number never
    /// changes.
    pub fn uses_candles_threads(&self) -> bool {
        let mut parts = self.matrices().flat_map(Linear::parts);
        parts.any(WeightMatrix::uses_candles_threads)
    }

    /// Computes a batch and stores its keys and values. Returns the vectors of the wanted tokens, `[rows, hidden]`; None if
    /// no row is wanted.
    ///
    /// # Errors
    /// `CANCELLED` if `interrupt` is set meanwhile; those of [`Compute`].
    pub fn forward<'a, 'b>(
        &self,
        step: &Step<'a>,
        spans: impl Iterator<Item = SpanView<'a>>,
        ropes: &Ropes,
        kv: &mut C::Kv,
        buffers: &'b mut Buffers<C>,
        interrupt: &Interrupt,
    ) -> Result<Option<&'b C::Rows>> {
        let (compute, config) = (&self.compute, &self.config);
        compute.embed(
            &self.embedding,
            step.tokens,
            config.embedding_scale,
            &mut buffers.hidden,
        )?;
        ropes.cos_sin(compute, step.positions, &mut buffers.cos_sin)?;
        let plan = compute.plan(config, step, spans, kv)?;
        for (number, block) in self.blocks.iter().enumerate() {
            interrupt.check()?;
            let is_last = number + 1 == self.blocks.len();
            let pass = Pass {
                compute,
                layer: Layer { config, number },
                plan: &plan,
                ropes,
                wanted: is_last.then_some(step.rows),
            };
            block.forward(&pass, kv, buffers)?;
        }
        if step.rows.is_empty() {
            return Ok(None);
        }
        let Buffers { hidden, normed, .. } = buffers;
        compute.norm(hidden, &self.norm, normed)?;
        Ok(Some(normed))
    }

    /// The logits for vectors of [`forward`](Self::forward): `[rows, vocabulary]`.
    ///
    /// # Errors
    /// Those of [`Compute`].
    pub fn logits(&self, vectors: &C::Rows, logits: &mut Matrix) -> Result<()> {
        let cap = self.config.logits_soft_cap;
        self.compute.logits(vectors, self.head(), cap, logits)
    }

    fn head(&self) -> &Linear<C> {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// All matrices of weights.
    pub fn matrices(&self) -> impl Iterator<Item = &Linear<C>> {
        let blocks = self.blocks.iter().flat_map(Block::linears);
        blocks.chain([&self.embedding]).chain(&self.output)
    }
}
