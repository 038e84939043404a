//! The operations of a decoder, as a trait with two implementations: this crate's CPU kernels, and candle's tensors on a
//! device.

mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod tensors;

use tenon_plugin_api::Result;

use crate::{
    config::{Config, Rope},
    kernels::{attention::SpanView, elementwise::Activation},
    kv::KvType,
    layers::{Hardware, Linear, Norm},
    matrix::Matrix,
};
pub use cpu::Cpu;
#[cfg(any(test, feature = "cuda"))]
pub use tensors::Tensors;

/// The operations of a decoder, and the types that they work on.
///
/// An operation writes its result into its last argument, whose memory it may use again. Unless something else is stated, an
/// error is `NO_MEMORY`, or `INTERNAL` for errors of candle.
pub trait Compute: Hardware + Clone + Send + Sync {
    /// Whether the operations compute with a number of threads that can be chosen.
    const THREADS: bool;

    /// Activations: one row for each token.
    type Rows: Send;
    /// The cosines and sines of RoPE at the positions of a batch.
    type CosSin: Default + Send;
    /// A prepared batch: the cells of its keys and values, and the positions that its queries see.
    type Plan<'a>;
    /// Keys and values of all layers.
    type Kv: Send;

    /// A KV pool with room for `cells` tokens.
    fn kv(&self, config: &Config, kind: KvType, cells: u32) -> Result<Self::Kv>;
    /// A buffer of rows, empty at first.
    fn rows(&self) -> Result<Self::Rows>;

    /// Prepares a batch. Each span names the cells of its keys and values.
    fn plan<'a>(
        &self,
        config: &Config,
        step: &Step<'a>,
        spans: impl Iterator<Item = SpanView<'a>>,
        kv: &Self::Kv,
    ) -> Result<Self::Plan<'a>>;
    /// The cosines and sines at these positions.
    fn cos_sin(&self, rope: &Rope, positions: &[u32], to: &mut Self::CosSin) -> Result<()>;

    /// Rows of the embedding, multiplied with `scale`.
    fn embed(
        &self,
        embedding: &Linear<Self>,
        tokens: &[u32],
        scale: f32,
        to: &mut Self::Rows,
    ) -> Result<()>;
    fn norm(&self, from: &Self::Rows, norm: &Norm<Self>, to: &mut Self::Rows) -> Result<()>;
    fn linear(&self, from: &Self::Rows, linear: &Linear<Self>, to: &mut Self::Rows) -> Result<()>;
    /// Takes rows of queries, keys and values. Normalizes queries and keys if the model does, rotates them by their
    /// positions (RoPE), and stores keys and values. The queries remain, at the beginning of each row.
    fn store(
        &self,
        layer: Layer,
        plan: &Self::Plan<'_>,
        heads: &Heads<Self>,
        kv: &mut Self::Kv,
        qkv: &mut Self::Rows,
    ) -> Result<()>;
    /// Attention of the queries that [`store`](Self::store) left to the stored keys and values: rows of `heads · head`.
    fn attend(
        &self,
        layer: Layer,
        plan: &Self::Plan<'_>,
        kv: &Self::Kv,
        queries: &Self::Rows,
        to: &mut Self::Rows,
    ) -> Result<()>;
    /// Keeps only the rows that the batch wants.
    fn select(&self, plan: &Self::Plan<'_>, rows: &mut Self::Rows) -> Result<()>;
    /// Multiplies the up projection with the activated gate. Each row of `gate_up` has the gate first and then the up
    /// projection.
    fn gate(&self, gate_up: &Self::Rows, activation: Activation, to: &mut Self::Rows)
    -> Result<()>;
    /// Adds `from`. If there is a norm, `from` is normalized in place first.
    fn add(
        &self,
        from: &mut Self::Rows,
        norm: Option<&Norm<Self>>,
        to: &mut Self::Rows,
    ) -> Result<()>;

    /// The output layer's products with rows, limited to `soft_cap`.
    fn logits(
        &self,
        rows: &Self::Rows,
        output: &Linear<Self>,
        soft_cap: Option<f32>,
        to: &mut Matrix,
    ) -> Result<()>;
    /// Rows as floats in memory. If they had to be copied, `copy` holds them.
    fn read<'a>(&self, rows: &'a Self::Rows, copy: &'a mut Matrix) -> Result<&'a Matrix>;
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

/// One of the decoder's layers.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub config: &'a Config,
    pub number: usize,
}

/// What a layer does to the heads of queries and keys: norms and RoPE.
pub struct Heads<'a, C: Compute> {
    pub query_norm: Option<&'a Norm<C>>,
    pub key_norm: Option<&'a Norm<C>>,
    pub rope: &'a Rope,
    pub cos_sin: &'a C::CosSin,
}

impl Layer<'_> {
    /// How many positions the layer sees, the query's own included. None: all of them.
    pub fn window(&self) -> Option<u32> {
        self.config.window(self.number)
    }
}
