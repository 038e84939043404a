//! The decoder: embedding → blocks of attention and MLP → output. It keeps no state; keys and values go into a pool.

mod block;

#[cfg(test)]
mod tests;

use tenon_plugin_api::{Code, Error, Interrupt, Result};

use crate::{
    config::{Config, Rope, RopeConfig, Turns},
    kernels::{attention::Tile, elementwise},
    kv::{Element, KvPool},
    linear::{Linear, Part},
    matrix::Matrix,
    pool,
    weights::{Loader, type_name},
};
use block::Block;

/// A model's weights, and how to compute with them.
pub struct Decoder {
    config: Config,
    /// `[vocabulary, hidden]`. Also the output, if the model has no other.
    embedding: Linear,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    output: Option<Linear>,
}

/// A batch: all sequences' tokens one after the other.
pub struct Step<'a> {
    /// `[tokens]`, as the next two.
    pub tokens: &'a [u32],
    pub positions: &'a [u32],
    /// Where each token's keys and values go.
    pub cells: &'a [u32],
    pub tiles: &'a [Tile<'a>],
    /// Tokens whose vectors are wanted, ascending.
    pub rows: &'a [u32],
}

/// Frequencies for the lengths that a session serves.
pub struct Ropes {
    global: Rope,
    local: Option<Rope>,
}

/// Memory that is kept from step to step.
pub struct Buffers {
    hidden: Matrix,
    normed: Matrix,
    attended: Matrix,
    gated: Matrix,
    qkv: Matrix,
    gate_up: Matrix,
    /// What attention or MLP add.
    added: Matrix,
    global: Turns,
    local: Turns,
}

/// Told how much is done; its error ends what is being done.
pub type Report<'a> = dyn Fn(f32) -> Result<()> + 'a;

impl Decoder {
    /// Reads the weights.
    ///
    /// # Errors
    /// As [`Loader::matrix`]; `INVALID` for tensors whose shapes do not fit the configuration; those of `report`.
    pub fn load(config: Config, loader: &Loader, report: &Report) -> Result<Self> {
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
            blocks.push(Block::load(&config, loader, layer)?);
        }
        let decoder = Self {
            embedding: Linear::new(vec![embedding], None, &loader.arena)?,
            blocks,
            norm: block::norm(&config, loader, "output_norm", config.hidden)?,
            output: output
                .map(|output| Linear::new(vec![output], None, &loader.arena))
                .transpose()?,
            config,
        };
        block::check(
            "token_embd",
            decoder.embedding.inputs(),
            decoder.config.hidden,
        )?;
        block::check("output", decoder.head().inputs(), decoder.config.hidden)?;
        block::check("output", decoder.head().outputs(), decoder.vocabulary())?;
        Ok(decoder)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Rows of the embedding, and length of a row of logits.
    pub fn vocabulary(&self) -> usize {
        self.embedding.outputs()
    }

    pub fn parameters(&self) -> u64 {
        self.matrices().map(Linear::parameters).sum()
    }

    pub fn weight_bytes(&self) -> u64 {
        self.matrices().map(Linear::bytes).sum()
    }

    /// Whether candle's own kernels compute some of the weights: with threads of their own, whose number never changes.
    pub fn uses_candles_threads(&self) -> bool {
        let mut parts = self.matrices().flat_map(Linear::parts);
        parts.any(Part::uses_candles_threads)
    }

    /// The type that most weights have.
    pub fn main_type(&self) -> &'static str {
        let mut counts = Vec::<(&str, usize)>::new();
        for part in self
            .blocks
            .iter()
            .flat_map(Block::linears)
            .flat_map(Linear::parts)
        {
            let (name, count) = (type_name(part.kind()), part.outputs() * part.inputs());
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => counts.push((name, count)),
            }
        }
        let most = counts.iter().max_by_key(|(_, count)| count);
        most.map_or("", |(name, _)| name)
    }

    /// Computes a batch and stores its keys and values. Gives the vectors of tokens, `[rows, hidden]`; None if no row is wanted.
    ///
    /// # Errors
    /// `CANCELLED` if `interrupt` is set meanwhile; `INTERNAL` for what candle refuses.
    pub fn forward<'b, E: Element>(
        &self,
        step: &Step,
        ropes: &Ropes,
        kv: &mut KvPool<E>,
        buffers: &'b mut Buffers,
        interrupt: &Interrupt,
    ) -> Result<Option<&'b Matrix>> {
        self.embed(step.tokens, &mut buffers.hidden)?;
        buffers.global.compute(&ropes.global, step.positions);
        if let Some(local) = &ropes.local {
            buffers.local.compute(local, step.positions);
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            if interrupt.is_set() {
                return Err(Error::new(Code::CANCELLED, "the host stopped the batch"));
            }
            let is_last = layer + 1 == self.blocks.len();
            let pass = block::Pass {
                config: &self.config,
                step,
                window: self.config.window(layer),
                rope: ropes.of(&self.config, layer),
                wanted: is_last.then_some(step.rows),
            };
            block.forward(&pass, kv.layer(layer), buffers)?;
        }
        if step.rows.is_empty() {
            return Ok(None);
        }
        elementwise::rms_norm(
            &buffers.hidden,
            &self.norm,
            self.config.norm_epsilon,
            &mut buffers.normed,
        );
        Ok(Some(&buffers.normed))
    }

    /// What tokens may follow, by the vectors of [`forward`](Self::forward): `[rows, vocabulary]`.
    ///
    /// # Errors
    /// `INTERNAL` for what candle refuses.
    pub fn logits(&self, vectors: &Matrix, logits: &mut Matrix) -> Result<()> {
        self.head().forward(vectors, logits)?;
        if let Some(cap) = self.config.logits_soft_cap {
            let width = logits.width();
            pool::for_each_row(logits.data_mut(), width, |_, row| {
                elementwise::soft_cap(row, cap);
            });
        }
        Ok(())
    }

    fn embed(&self, tokens: &[u32], to: &mut Matrix) -> Result<()> {
        self.embedding.read_rows(tokens, to)?;
        let scale = self.config.embedding_scale;
        to.data_mut().iter_mut().for_each(|x| *x *= scale);
        Ok(())
    }

    fn head(&self) -> &Linear {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Every matrix of weights.
    pub fn matrices(&self) -> impl Iterator<Item = &Linear> {
        let blocks = self.blocks.iter().flat_map(Block::linears);
        blocks.chain([&self.embedding]).chain(&self.output)
    }
}

impl Ropes {
    /// For sequences up to `context_length`.
    pub fn new(config: &Config, context_length: u32) -> Self {
        let resolve = |rope: &RopeConfig| rope.resolve(config.rope_layout, context_length);
        Self {
            global: resolve(&config.rope),
            local: config.local_rope.as_ref().map(resolve),
        }
    }

    fn of(&self, config: &Config, layer: usize) -> block::LayerRope<'_> {
        match (&self.local, config.window(layer)) {
            (Some(local), Some(_)) => block::LayerRope::Local(local),
            _ => block::LayerRope::Global(&self.global),
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        let empty = || Matrix::zeros(0, 1);
        Self {
            hidden: empty(),
            normed: empty(),
            attended: empty(),
            gated: empty(),
            qkv: empty(),
            gate_up: empty(),
            added: empty(),
            global: Turns::default(),
            local: Turns::default(),
        }
    }
}
