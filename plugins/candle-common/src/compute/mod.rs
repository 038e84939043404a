//! What a decoder computes with: this crate's CPU kernels, or candle's tensors on a device.

mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod tensors;

use candle_core::quantized::QTensor;
use tenon_plugin_api::Result;

use crate::{
    config::{Config, Rope},
    decoder::{Norm, Step},
    kernels::{attention::SpanView, elementwise::Activation, memory::Arena},
    kv::KvType,
    linear::Linear,
    matrix::Matrix,
};
pub use cpu::Cpu;
#[cfg(any(test, feature = "cuda"))]
pub use tensors::Tensors;

/// The operations of a decoder, and the types that they work on.
///
/// An operation writes its result into its last argument, whose memory it may use again. Unless something else is stated, an
/// error is `NO_MEMORY`, or `INTERNAL` for errors of candle.
pub trait Compute: Clone + Send + Sync + Sized + 'static {
    /// Whether the operations compute with a number of threads that can be chosen.
    const THREADS: bool;

    /// Weights of one type.
    type Weights: Weights;
    /// The weights of a norm, or a bias.
    type Vector: Send + Sync;
    /// Activations: one row for each token.
    type Rows: Send;
    /// The cosines and sines of RoPE at the positions of a batch.
    type Turns: Default + Send;
    /// Where the keys and values of a batch's tokens are, and what its queries see.
    type Plan<'a>;
    /// Keys and values of all layers.
    type Kv: Send;

    /// # Errors
    /// `INVALID` if `matrix` is not a matrix.
    fn weights(&self, matrix: QTensor, arena: &Arena) -> Result<Self::Weights>;
    fn vector(&self, numbers: Vec<f32>) -> Result<Self::Vector>;
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
    fn turns(&self, rope: &Rope, positions: &[u32], to: &mut Self::Turns) -> Result<()>;

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
    /// Each row of `gate_up` has the gate first and then the up projection.
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
    /// The numbers of rows. They may be copied.
    fn read<'a>(&self, rows: &'a Self::Rows, copy: &'a mut Matrix) -> Result<&'a Matrix>;
}

/// Weights of one type: `[outputs, inputs]`.
pub trait Weights: Send + Sync {
    fn outputs(&self) -> usize;
    fn inputs(&self) -> usize;
    fn bytes(&self) -> usize;
    /// Whether candle's own kernels compute with these weights on the CPU. Those have threads of their own, whose number
    /// never changes.
    fn uses_candles_threads(&self) -> bool;
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
    pub turns: &'a C::Turns,
}

impl Layer<'_> {
    /// How many positions the layer sees, the query's own included. None: all of them.
    pub fn window(&self) -> Option<u32> {
        self.config.window(self.number)
    }
}
