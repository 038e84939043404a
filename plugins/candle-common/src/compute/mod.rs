//! What a decoder computes with: the own kernels of the CPU, or candle's tensors on a device.

mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod tensors;

use candle_core::quantized::{GgmlDType, QTensor};
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

/// The operations of a decoder, and what they work on.
///
/// What an operation computes it leaves in its last argument, in memory that the argument may bring along. Where nothing else
/// is said, an error is `NO_MEMORY`, or `INTERNAL` for what candle refuses.
pub trait Compute: Clone + Send + Sync + Sized + 'static {
    /// Whether it computes with as many threads as it is told to.
    const THREADS: bool;

    /// Weights of one type.
    type Weights: Weights;
    /// Weights of a norm, or a bias.
    type Vector: Send + Sync;
    /// Activations: a row for each token.
    type Rows: Send;
    /// How far heads are turned at the positions of a batch.
    type Turns: Default + Send;
    /// Where the tokens of a batch have their keys and values.
    type Plan<'a>;
    /// Keys and values of all layers.
    type Kv: Send;

    /// # Errors
    /// `INVALID` for what is no matrix.
    fn weights(&self, matrix: QTensor, arena: &Arena) -> Result<Self::Weights>;
    fn vector(&self, numbers: Vec<f32>) -> Result<Self::Vector>;
    /// Room for `cells` tokens.
    fn kv(&self, config: &Config, kind: KvType, cells: u32) -> Result<Self::Kv>;
    /// No rows yet.
    fn rows(&self) -> Result<Self::Rows>;

    /// Each span's keys and values are in the cells that it names.
    fn plan<'a>(
        &self,
        config: &Config,
        step: &Step<'a>,
        spans: impl Iterator<Item = SpanView<'a>>,
        kv: &Self::Kv,
    ) -> Result<Self::Plan<'a>>;
    fn turns(&self, rope: &Rope, positions: &[u32], to: &mut Self::Turns) -> Result<()>;

    /// Rows of the embedding, `scale` times as large.
    fn embed(
        &self,
        embedding: &Linear<Self>,
        tokens: &[u32],
        scale: f32,
        to: &mut Self::Rows,
    ) -> Result<()>;
    fn norm(&self, from: &Self::Rows, norm: &Norm<Self>, to: &mut Self::Rows) -> Result<()>;
    fn linear(&self, from: &Self::Rows, linear: &Linear<Self>, to: &mut Self::Rows) -> Result<()>;
    /// Rows of queries, keys and values: norms queries and keys where the model does, turns them to their positions, and stores
    /// keys and values. The queries are left, at the beginning of each row.
    fn store(
        &self,
        layer: Layer,
        plan: &Self::Plan<'_>,
        heads: &Heads<Self>,
        kv: &mut Self::Kv,
        qkv: &mut Self::Rows,
    ) -> Result<()>;
    /// What the queries that [`store`](Self::store) left see of the keys and values that are stored: rows of `heads · head`.
    fn attend(
        &self,
        layer: Layer,
        plan: &Self::Plan<'_>,
        kv: &Self::Kv,
        queries: &Self::Rows,
        to: &mut Self::Rows,
    ) -> Result<()>;
    /// Only the rows that the batch wants.
    fn select(&self, plan: &Self::Plan<'_>, rows: &mut Self::Rows) -> Result<()>;
    /// Each row is a gate and, behind it, what it lets through.
    fn gate(&self, gate_up: &Self::Rows, activation: Activation, to: &mut Self::Rows)
    -> Result<()>;
    /// Adds `from`, normed in place if it is.
    fn add(
        &self,
        from: &mut Self::Rows,
        norm: Option<&Norm<Self>>,
        to: &mut Self::Rows,
    ) -> Result<()>;

    /// What the output makes of rows, kept within `soft_cap`.
    fn logits(
        &self,
        rows: &Self::Rows,
        output: &Linear<Self>,
        soft_cap: Option<f32>,
        to: &mut Matrix,
    ) -> Result<()>;
    /// The numbers of rows, which may be copied.
    fn read<'a>(&self, rows: &'a Self::Rows, copy: &'a mut Matrix) -> Result<&'a Matrix>;
}

/// Weights of one type: `[outputs, inputs]`.
pub trait Weights: Send + Sync {
    fn kind(&self) -> GgmlDType;
    fn outputs(&self) -> usize;
    fn inputs(&self) -> usize;
    fn bytes(&self) -> usize;
    /// Whether candle's own kernels compute it on the CPU: with threads of their own, whose number never changes.
    fn uses_candles_threads(&self) -> bool;
}

/// One of the decoder's layers.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub config: &'a Config,
    pub number: usize,
}

/// What a layer does to the heads of queries and keys.
pub struct Heads<'a, C: Compute> {
    pub query_norm: Option<&'a Norm<C>>,
    pub key_norm: Option<&'a Norm<C>>,
    pub rope: &'a Rope,
    pub turns: &'a C::Turns,
}

impl Layer<'_> {
    /// How far back it looks. None: to the first position.
    pub fn window(&self) -> Option<u32> {
        self.config.window(self.number)
    }
}
