//! The KV pool: keys and values of all layers, in cells that a [`KvLedger`](tenon_plugin_api::KvLedger) numbers. Sequences
//! share cells by sharing their numbers; nothing is ever moved.

use half::{bf16, f16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Code, Error, Result};

use crate::{
    config::Config,
    kernels::{element::Element, memory::Memory},
};

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    F32,
    #[default]
    F16,
    Bf16,
}

impl KvType {
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Keys and values of every layer.
pub enum KvPool {
    F32(Vec<LayerKv<f32>>),
    F16(Vec<LayerKv<f16>>),
    Bf16(Vec<LayerKv<bf16>>),
}

/// Keys and values of one layer: `[kv_heads, cells, head]`, so that one head reads neighbouring cells as one piece of
/// memory.
pub struct LayerKv<E> {
    keys: Memory<E>,
    values: Memory<E>,
    cells: usize,
    head: usize,
}

impl KvPool {
    /// A pool with room for `cells` tokens. The operating system provides the memory when it is first written.
    ///
    /// # Errors
    /// `NO_MEMORY` if the operating system refuses that much memory.
    pub fn new(config: &Config, kind: KvType, cells: u32) -> Result<Self> {
        Ok(match kind {
            KvType::F32 => Self::F32(layers(config, cells)?),
            KvType::F16 => Self::F16(layers(config, cells)?),
            KvType::Bf16 => Self::Bf16(layers(config, cells)?),
        })
    }
}

fn layers<E: Element>(config: &Config, cells: u32) -> Result<Vec<LayerKv<E>>> {
    let layer = |_| LayerKv::new(config.kv_heads, cells as usize, config.head);
    (0..config.layers).map(layer).collect()
}

impl<E: Element> LayerKv<E> {
    /// # Errors
    /// As [`KvPool::new`].
    pub fn new(kv_heads: usize, cells: usize, head: usize) -> Result<Self> {
        let numbers = || {
            let memory = Memory::zeros(kv_heads * cells * head);
            memory.map_err(|error| {
                Error::new(
                    Code::NO_MEMORY,
                    format!("no memory for {cells} tokens: {error}"),
                )
            })
        };
        Ok(Self {
            keys: numbers()?,
            values: numbers()?,
            cells,
            head,
        })
    }

    /// Stores a token's keys and values, each `[kv_heads, head]`.
    pub fn write(&mut self, cell: u32, keys: &[f32], values: &[f32]) {
        let heads = keys
            .chunks_exact(self.head)
            .zip(values.chunks_exact(self.head));
        for (head, (key, value)) in heads.enumerate() {
            let at = (head * self.cells + cell as usize) * self.head;
            E::narrow(key, &mut self.keys[at..][..self.head]);
            E::narrow(value, &mut self.values[at..][..self.head]);
        }
    }

    /// `[cells, head]`
    pub fn keys(&self, kv_head: usize) -> &[E] {
        &self.keys[kv_head * self.cells * self.head..][..self.cells * self.head]
    }

    /// `[cells, head]`
    pub fn values(&self, kv_head: usize) -> &[E] {
        &self.values[kv_head * self.cells * self.head..][..self.cells * self.head]
    }
}
