//! The decoder: embedding → blocks of attention and MLP → output. It keeps no state: keys and values are stored in a pool.

mod block;
mod norm;

#[cfg(test)]
mod tests;

use tenon_plugin_api::{Code, Error, Interrupt, Result};

use crate::{
    compute::{Compute, Layer, Weights},
    config::{Config, Rope, RopeConfig},
    kernels::attention::SpanView,
    linear::Linear,
    matrix::Matrix,
    weights::Loader,
};
use block::{Block, Pass};
pub use norm::Norm;

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

/// A batch: the tokens of all sequences, one sequence after the other.
pub struct Step<'a> {
    /// `[tokens]`, like the next two.
    pub tokens: &'a [u32],
    pub positions: &'a [u32],
    /// The cell of each token's keys and values.
    pub cells: &'a [u32],
    /// Tokens whose vectors are wanted, in ascending order.
    pub rows: &'a [u32],
}

/// RoPE frequencies for the lengths that a session serves.
pub struct Ropes {
    global: Rope,
    local: Option<Rope>,
}

/// Memory that is kept from step to step.
pub struct Buffers<C: Compute> {
    hidden: C::Rows,
    normed: C::Rows,
    attended: C::Rows,
    gated: C::Rows,
    qkv: C::Rows,
    gate_up: C::Rows,
    /// The output of attention or MLP, which is added to `hidden`.
    added: C::Rows,
    turns: BatchTurns<C::Turns>,
}

/// RoPE cosines and sines at the positions of a batch.
#[derive(Default)]
struct BatchTurns<T> {
    global: T,
    local: T,
}

/// Receives the finished fraction of a task. Its error stops the task.
pub type Report<'a> = dyn Fn(f32) -> Result<()> + 'a;

impl<C: Compute> Decoder<C> {
    /// Loads the weights.
    ///
    /// # Errors
    /// As [`Loader::matrix`]; `INVALID` for tensors whose shapes do not fit the configuration; those of `report`.
    pub fn load(compute: C, config: Config, loader: &Loader, report: &Report) -> Result<Self> {
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
        check(
            "token_embd",
            decoder.embedding.inputs(),
            decoder.config.hidden,
        )?;
        check("output", decoder.head().inputs(), decoder.config.hidden)?;
        check("output", decoder.head().outputs(), decoder.vocabulary())?;
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
        parts.any(Weights::uses_candles_threads)
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
        ropes.turn(compute, step.positions, &mut buffers.turns)?;
        let plan = compute.plan(config, step, spans, kv)?;
        for (number, block) in self.blocks.iter().enumerate() {
            if interrupt.is_set() {
                return Err(Error::new(Code::CANCELLED, "the host stopped the batch"));
            }
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

impl Ropes {
    /// The frequencies for sequences of up to `context_length` tokens.
    pub fn new(config: &Config, context_length: u32) -> Self {
        let resolve = |rope: &RopeConfig| rope.resolve(config.rope_layout, context_length);
        Self {
            global: resolve(&config.rope),
            local: config.local_rope.as_ref().map(resolve),
        }
    }

    fn turn<C: Compute>(
        &self,
        compute: &C,
        positions: &[u32],
        to: &mut BatchTurns<C::Turns>,
    ) -> Result<()> {
        compute.turns(&self.global, positions, &mut to.global)?;
        match &self.local {
            Some(local) => compute.turns(local, positions, &mut to.local),
            None => Ok(()),
        }
    }

    /// The frequencies of a layer, with their cosines and sines.
    fn of<'a, T>(&'a self, layer: Layer, turns: &'a BatchTurns<T>) -> (&'a Rope, &'a T) {
        match (&self.local, layer.window()) {
            (Some(local), Some(_)) => (local, &turns.local),
            _ => (&self.global, &turns.global),
        }
    }
}

impl<C: Compute> Buffers<C> {
    /// # Errors
    /// Those of [`Compute`].
    pub fn new(compute: &C) -> Result<Self> {
        Ok(Self {
            hidden: compute.rows()?,
            normed: compute.rows()?,
            attended: compute.rows()?,
            gated: compute.rows()?,
            qkv: compute.rows()?,
            gate_up: compute.rows()?,
            added: compute.rows()?,
            turns: BatchTurns::default(),
        })
    }
}

/// # Errors
/// `INVALID` with the tensor's name, if its size differs from the configuration's.
fn check(name: &str, size: usize, expected: usize) -> Result<()> {
    if size == expected {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the tensor {name} has a side of {size} where the model's configuration says {expected}: the files do not belong together"
    )))
}
