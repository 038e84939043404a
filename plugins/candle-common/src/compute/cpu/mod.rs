//! Computes with this crate's kernels, on the threads that are installed. Buffers keep their memory: a step that is no larger
//! than an earlier one allocates nothing for them.

mod floats;
mod linear;
mod weights;

use candle_core::quantized::QTensor;
use fearless_simd::{Level, Simd, dispatch};
use tenon_plugin_api::Result;

use super::{Compute, Heads, Layer, Step};
use crate::{
    config::{Config, CosSin, Rope},
    kernels::{
        attention::{self, Geometry, QueryTile, SpanView},
        element::Element,
        elementwise::{self, Activation},
        memory::Arena,
    },
    kv::{KvPool, KvType, LayerKv},
    layers::{Hardware, Linear, Norm},
    matrix::Matrix,
    pool,
};
use weights::CpuWeights;

#[derive(Clone, Copy)]
pub struct Cpu;

pub struct CpuPlan<'a> {
    tiles: Vec<QueryTile<'a>>,
    /// The cell of each token's keys and values.
    cells: &'a [u32],
    /// The tokens whose rows are wanted.
    rows: &'a [u32],
}

impl Hardware for Cpu {
    type Weights = CpuWeights;
    type Vector = Vec<f32>;

    fn weights(&self, matrix: QTensor, arena: &Arena) -> Result<CpuWeights> {
        CpuWeights::new(matrix, arena)
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Vec<f32>> {
        Ok(numbers)
    }
}

impl Compute for Cpu {
    const THREADS: bool = true;

    type Rows = Matrix;
    type CosSin = CosSin;
    type Plan<'a> = CpuPlan<'a>;
    type Kv = KvPool;

    fn kv(&self, config: &Config, kind: KvType, cells: u32) -> Result<KvPool> {
        KvPool::new(config, kind, cells)
    }

    fn rows(&self) -> Result<Matrix> {
        Ok(Matrix::zeros(0, 1))
    }

    fn plan<'a>(
        &self,
        _: &Config,
        step: &Step<'a>,
        spans: impl Iterator<Item = SpanView<'a>>,
        _: &KvPool,
    ) -> Result<CpuPlan<'a>> {
        Ok(CpuPlan {
            tiles: attention::tiles(spans),
            cells: step.cells,
            rows: step.rows,
        })
    }

    fn cos_sin(&self, rope: &Rope, positions: &[u32], to: &mut CosSin) -> Result<()> {
        to.compute(rope, positions);
        Ok(())
    }

    fn embed(
        &self,
        embedding: &Linear<Self>,
        tokens: &[u32],
        scale: f32,
        to: &mut Matrix,
    ) -> Result<()> {
        embedding.read_rows(tokens, to)?;
        elementwise::scale(to.data_mut(), scale);
        Ok(())
    }

    fn norm(&self, from: &Matrix, norm: &Norm<Self>, to: &mut Matrix) -> Result<()> {
        elementwise::rms_norm(from, &norm.weights, norm.epsilon, to);
        Ok(())
    }

    fn linear(&self, from: &Matrix, linear: &Linear<Self>, to: &mut Matrix) -> Result<()> {
        linear.forward(from, to)
    }

    fn store(
        &self,
        layer: Layer,
        plan: &CpuPlan,
        heads: &Heads<Self>,
        kv: &mut KvPool,
        qkv: &mut Matrix,
    ) -> Result<()> {
        position(layer.config, heads, qkv);
        match kv {
            KvPool::F32(layers) => store(layer, plan.cells, qkv, layers),
            KvPool::F16(layers) => store(layer, plan.cells, qkv, layers),
            KvPool::Bf16(layers) => store(layer, plan.cells, qkv, layers),
        }
        Ok(())
    }

    fn attend(
        &self,
        layer: Layer,
        plan: &CpuPlan,
        kv: &KvPool,
        queries: &Matrix,
        to: &mut Matrix,
    ) -> Result<()> {
        let (tiles, geometry, layer) = (&plan.tiles, geometry(layer), layer.number);
        match kv {
            KvPool::F32(layers) => attention::attend(tiles, queries, &layers[layer], &geometry, to),
            KvPool::F16(layers) => attention::attend(tiles, queries, &layers[layer], &geometry, to),
            KvPool::Bf16(layers) => {
                attention::attend(tiles, queries, &layers[layer], &geometry, to);
            }
        }
        Ok(())
    }

    fn select(&self, plan: &CpuPlan, rows: &mut Matrix) -> Result<()> {
        rows.select_rows(plan.rows);
        Ok(())
    }

    fn gate(&self, gate_up: &Matrix, activation: Activation, to: &mut Matrix) -> Result<()> {
        elementwise::gate(gate_up, activation, to);
        Ok(())
    }

    fn add(&self, from: &mut Matrix, norm: Option<&Norm<Self>>, to: &mut Matrix) -> Result<()> {
        if let Some(norm) = norm {
            elementwise::rms_norm_rows(from, &norm.weights, norm.epsilon);
        }
        elementwise::add(to.data_mut(), from.data());
        Ok(())
    }

    fn logits(
        &self,
        rows: &Matrix,
        output: &Linear<Self>,
        soft_cap: Option<f32>,
        to: &mut Matrix,
    ) -> Result<()> {
        output.forward(rows, to)?;
        if let Some(cap) = soft_cap {
            elementwise::soft_cap_rows(to, cap);
        }
        Ok(())
    }

    fn read<'a>(&self, rows: &'a Matrix, _: &'a mut Matrix) -> Result<&'a Matrix> {
        Ok(rows)
    }
}

/// Normalizes queries and keys if the model does, and rotates them by their positions (RoPE).
fn position(config: &Config, heads: &Heads<Cpu>, qkv: &mut Matrix) {
    let width = qkv.width();
    pool::for_each_row(qkv.data_mut(), width, |token, row| {
        dispatch!(Level::new(), simd => position_token(simd, config, heads, token, row));
    });
}

#[inline(always)]
fn position_token<S: Simd>(
    simd: S,
    config: &Config,
    heads: &Heads<Cpu>,
    token: usize,
    row: &mut [f32],
) {
    let row = row.chunks_exact_mut(config.head);
    for (number, head) in row.take(config.heads + config.kv_heads).enumerate() {
        let is_query = number < config.heads;
        let norm = if is_query {
            heads.query_norm
        } else {
            heads.key_norm
        };
        if let Some(norm) = norm {
            elementwise::rms_norm_row(simd, head, &norm.weights, norm.epsilon);
        }
        heads.cos_sin.apply(heads.rope, token, head);
    }
}

/// Stores keys and values, which follow the queries in each row.
fn store<E: Element>(layer: Layer, cells: &[u32], qkv: &Matrix, kv: &mut [LayerKv<E>]) {
    let Layer { config, number } = layer;
    let (queries, keys) = (config.heads * config.head, config.kv_heads * config.head);
    for (token, &cell) in cells.iter().enumerate() {
        let (keys, values) = qkv.row(token)[queries..].split_at(keys);
        kv[number].write(cell, keys, values);
    }
}

fn geometry(layer: Layer) -> Geometry {
    let config = layer.config;
    Geometry {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head: config.head,
        scale: config.attention_scale,
        soft_cap: config.attention_soft_cap,
        window: layer.window(),
    }
}
