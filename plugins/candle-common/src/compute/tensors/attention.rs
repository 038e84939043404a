//! Attention of a ragged batch.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops;

#[cfg(feature = "cuda")]
use super::flash::Flash;
use super::{
    kv::{Cells, DeviceKv},
    soft_capped,
};
use crate::{compute::Layer, config::Config, kernels::attention::SpanView};

/// The keys and values that the queries of a batch see.
pub struct Seen {
    /// Cells of the spans' keys and values, one span after the other.
    cells: Cells,
    kernel: AttentionKernel,
}

/// The implementation of attention.
enum AttentionKernel {
    /// Flash attention, for all spans at once.
    #[cfg(feature = "cuda")]
    Flash(Flash),
    /// Plain attention, span by span, in any type and on any device.
    Plain(Vec<MaskedSpan>),
}

/// One span of a batch. Its last key has the position of its last query.
struct MaskedSpan {
    queries: usize,
    keys: usize,
    /// Mask that is added to products, to hide keys from queries: `[queries, keys]`. None: every query sees all keys.
    mask: Option<Tensor>,
}

impl Seen {
    /// Without a window the queries see all positions.
    pub fn new(
        config: &Config,
        spans: &[SpanView],
        window: Option<u32>,
        kv: &DeviceKv,
        device: &Device,
    ) -> Result<Self> {
        let first =
            |span: &SpanView| window.map_or(0, |window| first_seen(span.position(), window));
        let cells = spans.iter().flat_map(|span| &span.cells[first(span)..]);
        let lens = spans
            .iter()
            .map(|span| [span.len, span.cells.len() - first(span)]);
        Ok(Self {
            cells: Cells::new(&cells.copied().collect::<Vec<_>>(), device)?,
            kernel: AttentionKernel::new(config, &lens.collect::<Vec<_>>(), window, kv, device)?,
        })
    }

    /// `queries` is `[tokens, heads, head]`, the result `[tokens, heads · head]`.
    pub fn attend(&self, layer: Layer, queries: &Tensor, kv: &DeviceKv) -> Result<Tensor> {
        let [keys, values] = kv.read(layer.number, &self.cells)?;
        match &self.kernel {
            #[cfg(feature = "cuda")]
            AttentionKernel::Flash(flash) => flash.attend(layer.config, queries, &keys, &values),
            AttentionKernel::Plain(spans) => attend(layer.config, spans, queries, &keys, &values),
        }
    }
}

impl AttentionKernel {
    /// `lens` has each span's numbers of queries and keys.
    fn new(
        config: &Config,
        lens: &[[usize; 2]],
        window: Option<u32>,
        kv: &DeviceKv,
        device: &Device,
    ) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if Flash::serves(config, kv.kind, device) {
            return Flash::new(lens, window, device).map(Self::Flash);
        }
        #[cfg(not(feature = "cuda"))]
        let _ = (config, kv);
        let spans = lens.iter().map(|&[queries, keys]| {
            Ok(MaskedSpan {
                queries,
                keys,
                mask: mask(queries, keys, window, device)?,
            })
        });
        spans.collect::<Result<_>>().map(Self::Plain)
    }
}

fn attend(
    config: &Config,
    spans: &[MaskedSpan],
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor> {
    let [keys, values] = [keys.to_dtype(DType::F32)?, values.to_dtype(DType::F32)?];
    let (mut query, mut key) = (0, 0);
    let attended = spans.iter().map(|span| {
        let queries = queries.narrow(0, query, span.queries)?;
        let keys = keys.narrow(0, key, span.keys)?;
        let values = values.narrow(0, key, span.keys)?;
        (query, key) = (query + span.queries, key + span.keys);
        span.attend(config, &queries, &keys, &values)
    });
    Tensor::cat(&attended.collect::<Result<Vec<_>>>()?, 0)
}

impl MaskedSpan {
    /// Computes the attention of one span. All tensors are floats.
    fn attend(
        &self,
        config: &Config,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let (kv_heads, group, head) = (config.kv_heads, config.group(), config.head);
        let queries = queries.reshape((self.queries, kv_heads, group, head))?;
        let rows = (kv_heads, group * self.queries, head);
        let queries = queries.permute((1, 2, 0, 3))?.reshape(rows)?;
        let keys = keys.permute((1, 2, 0))?.contiguous()?;
        let values = values.transpose(0, 1)?.contiguous()?;
        let products = (queries.matmul(&keys)? * f64::from(config.attention_scale))?;
        let weights = self.weigh(config, products)?;
        let sums = weights.matmul(&values)?;
        let sums = sums.reshape((kv_heads, group, self.queries, head))?;
        sums.permute((2, 0, 1, 3))?
            .reshape((self.queries, kv_heads * group * head))
    }

    /// Turns products of queries and keys into softmax weights. Both are `[kv_heads, group · queries, keys]`.
    fn weigh(&self, config: &Config, products: Tensor) -> Result<Tensor> {
        let products = match config.attention_soft_cap {
            Some(cap) => soft_capped(&products, cap)?,
            None => products,
        };
        let Some(mask) = &self.mask else {
            return ops::softmax_last_dim(&products);
        };
        let by_head = products.reshape((config.heads, self.queries, self.keys))?;
        let weights = ops::softmax_last_dim(&by_head.broadcast_add(mask)?)?;
        weights.reshape(products.shape())
    }
}

/// The first position that a query at `position` sees through a window.
fn first_seen(position: usize, window: u32) -> usize {
    (position + 1).saturating_sub(window as usize)
}

/// The mask for the last `queries` of `keys` positions.
fn mask(
    queries: usize,
    keys: usize,
    window: Option<u32>,
    device: &Device,
) -> Result<Option<Tensor>> {
    if queries == 1 {
        return Ok(None);
    }
    let mut numbers = Vec::with_capacity(queries * keys);
    for query in 0..queries {
        let position = keys - queries + query;
        let first = window.map_or(0, |window| first_seen(position, window));
        let hidden = |key| key < first || key > position;
        numbers.extend((0..keys).map(|key| if hidden(key) { f32::NEG_INFINITY } else { 0.0 }));
    }
    Tensor::from_vec(numbers, (queries, keys), device).map(Some)
}
