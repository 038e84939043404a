//! Computes with candle's tensors on one device: on a GPU, or in tests on the CPU.
//!
//! Activations are floats of 32 bits. Weights, keys and values keep the type that they have.

mod attention;
#[cfg(feature = "cuda")]
mod flash;
mod heads;
mod kv;
mod weights;

use candle_core::{DType, Device, Tensor, quantized::QTensor};
use candle_nn::ops;
use tenon_plugin_api::{Code, Error, Result};

use super::{Compute, Heads, Layer, Step};
use crate::{
    config::{Config, Rope},
    kernels::{attention::SpanView, elementwise::Activation, memory::Arena},
    kv::KvType,
    layers::{Hardware, Linear, Norm},
    matrix::Matrix,
    weights::candle_error,
};
use attention::Seen;
use heads::DeviceCosSin;
use kv::{Cells, DeviceKv};
use weights::DeviceWeights;

#[derive(Clone)]
pub struct Tensors {
    device: Device,
}

/// A batch, prepared on the device.
pub struct DevicePlan {
    /// The cell of each token's keys and values.
    stored: Cells,
    /// The keys and values that layers without a window see.
    global: Seen,
    /// The keys and values that layers with a window see, if those are fewer.
    local: Option<Seen>,
    /// The tokens whose rows are wanted. None: all.
    rows: Option<Tensor>,
}

impl Tensors {
    /// # Errors
    /// `INTERNAL` for a GPU that cannot be used.
    #[cfg(feature = "cuda")]
    pub fn on_gpu(number: usize) -> Result<Self> {
        // All threads share one CUDA stream, so the results of one thread are ready for work that another thread submits
        // later.
        let device = computed(Device::new_cuda_with_stream(number))?;
        Ok(Self { device })
    }

    #[cfg(test)]
    pub fn on_cpu() -> Self {
        Self {
            device: Device::Cpu,
        }
    }
}

impl Hardware for Tensors {
    type Weights = DeviceWeights;
    type Vector = Tensor;

    fn weights(&self, matrix: QTensor, _: &Arena) -> Result<DeviceWeights> {
        DeviceWeights::new(matrix, &self.device)
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Tensor> {
        let len = numbers.len();
        computed(Tensor::from_vec(numbers, len, &self.device))
    }
}

impl Compute for Tensors {
    const THREADS: bool = false;

    type Rows = Tensor;
    type CosSin = DeviceCosSin;
    type Plan<'a> = DevicePlan;
    type Kv = DeviceKv;

    fn kv(&self, config: &Config, kind: KvType, cells: u32) -> Result<DeviceKv> {
        computed(DeviceKv::new(config, kind, cells, &self.device))
    }

    fn rows(&self) -> Result<Tensor> {
        computed(Tensor::zeros(1, DType::F32, &self.device))
    }

    fn plan<'a>(
        &self,
        config: &Config,
        step: &Step<'a>,
        spans: impl Iterator<Item = SpanView<'a>>,
        kv: &DeviceKv,
    ) -> Result<DevicePlan> {
        let spans: Vec<_> = spans.collect();
        computed(DevicePlan::new(config, step, &spans, kv, &self.device))
    }

    fn cos_sin(&self, rope: &Rope, positions: &[u32], to: &mut DeviceCosSin) -> Result<()> {
        computed(to.compute(rope, positions, &self.device))
    }

    fn embed(
        &self,
        embedding: &Linear<Self>,
        tokens: &[u32],
        scale: f32,
        to: &mut Tensor,
    ) -> Result<()> {
        let rows = Tensor::new(tokens, &self.device)
            .and_then(|tokens| embedding.read_rows(&tokens)?.affine(scale.into(), 0.0));
        put(rows, to)
    }

    fn norm(&self, from: &Tensor, norm: &Norm<Self>, to: &mut Tensor) -> Result<()> {
        put(normed(from, norm), to)
    }

    fn linear(&self, from: &Tensor, linear: &Linear<Self>, to: &mut Tensor) -> Result<()> {
        put(linear.forward(from), to)
    }

    fn store(
        &self,
        layer: Layer,
        plan: &DevicePlan,
        heads: &Heads<Self>,
        kv: &mut DeviceKv,
        qkv: &mut Tensor,
    ) -> Result<()> {
        let queries = heads::split(layer.config, heads, qkv).and_then(|[queries, keys, values]| {
            kv.write(layer.number, &plan.stored, &keys, &values)?;
            Ok(queries)
        });
        put(queries, qkv)
    }

    fn attend(
        &self,
        layer: Layer,
        plan: &DevicePlan,
        kv: &DeviceKv,
        queries: &Tensor,
        to: &mut Tensor,
    ) -> Result<()> {
        put(plan.seen(layer).attend(layer, queries, kv), to)
    }

    fn select(&self, plan: &DevicePlan, rows: &mut Tensor) -> Result<()> {
        match &plan.rows {
            Some(wanted) => put(rows.index_select(wanted, 0), rows),
            None => Ok(()),
        }
    }

    fn gate(&self, gate_up: &Tensor, activation: Activation, to: &mut Tensor) -> Result<()> {
        let gated = gate_up.chunk(2, 1).and_then(|halves| {
            let gate = match activation {
                Activation::Silu => halves[0].silu()?,
                Activation::Gelu => halves[0].gelu()?,
            };
            gate * &halves[1]
        });
        put(gated, to)
    }

    fn add(&self, from: &mut Tensor, norm: Option<&Norm<Self>>, to: &mut Tensor) -> Result<()> {
        let from = match norm {
            Some(norm) => normed(from, norm),
            None => Ok(from.clone()),
        };
        put(from.and_then(|from| &*to + from), to)
    }

    fn logits(
        &self,
        rows: &Tensor,
        output: &Linear<Self>,
        soft_cap: Option<f32>,
        to: &mut Matrix,
    ) -> Result<()> {
        let logits = output.forward(rows).and_then(|logits| match soft_cap {
            Some(cap) => soft_capped(&logits, cap),
            None => Ok(logits),
        });
        self.read(&computed(logits)?, to).map(drop)
    }

    fn read<'a>(&self, rows: &'a Tensor, copy: &'a mut Matrix) -> Result<&'a Matrix> {
        let numbers = rows.flatten_all().and_then(|rows| rows.to_vec1());
        *copy = Matrix::new(computed(numbers)?, computed(rows.dim(1))?);
        Ok(copy)
    }
}

impl DevicePlan {
    fn new(
        config: &Config,
        step: &Step,
        spans: &[SpanView],
        kv: &DeviceKv,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let longest = spans.iter().map(|span| span.cells.len()).max();
        let window = config
            .window
            .filter(|&window| longest > Some(window as usize));
        let seen = |window| Seen::new(config, spans, window, kv, device);
        let all = step.rows.len() == step.tokens.len();
        let rows = match all || step.rows.is_empty() {
            true => None,
            false => Some(Tensor::new(step.rows, device)?),
        };
        Ok(Self {
            stored: Cells::new(step.cells, device)?,
            global: seen(None)?,
            local: window.map(|window| seen(Some(window))).transpose()?,
            rows,
        })
    }

    /// The keys and values that the queries of a layer see.
    fn seen(&self, layer: Layer) -> &Seen {
        let local = self.local.as_ref().filter(|_| layer.window().is_some());
        local.unwrap_or(&self.global)
    }
}

fn normed(rows: &Tensor, norm: &Norm<Tensors>) -> candle_core::Result<Tensor> {
    ops::rms_norm(rows, &norm.weights, norm.epsilon)
}

/// `cap · tanh(x / cap)`
fn soft_capped(numbers: &Tensor, cap: f32) -> candle_core::Result<Tensor> {
    let cap = f64::from(cap);
    (numbers / cap)?.tanh()? * cap
}

/// Moves a result into its place.
fn put(result: candle_core::Result<Tensor>, to: &mut Tensor) -> Result<()> {
    *to = computed(result)?;
    Ok(())
}

/// Converts candle's errors to those of the SDK.
fn computed<T>(result: candle_core::Result<T>) -> Result<T> {
    result.map_err(|error| {
        let Error { message, .. } = candle_error("candle could not compute", &error);
        let code = match message.contains("OUT_OF_MEMORY") {
            true => Code::NO_MEMORY,
            false => Code::INTERNAL,
        };
        Error::new(code, message)
    })
}
