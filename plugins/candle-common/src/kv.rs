//! The KV pool: keys and values of all layers, in places that a [`KvLedger`](tenon_plugin_api::KvLedger) numbers. Sequences
//! share places by sharing their numbers; nothing is ever moved.

use bytemuck::Pod;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use serde::Deserialize;
use tenon_plugin_api::{Code, Error, Result};

use crate::{config::Config, kernels::memory::Memory};

/// Numbers that are widened side by side.
pub const LANES: usize = 16;

/// A number format of keys and values, and of weights.
pub trait Element: Pod + Send + Sync {
    #[inline(always)]
    fn lanes(from: &[Self; LANES]) -> [f32; LANES] {
        let mut to = [0.0; LANES];
        Self::widen(from, &mut to);
        to
    }

    fn widen(from: &[Self], to: &mut [f32]);
    fn narrow(from: &[f32], to: &mut [Self]);
}

impl Element for f32 {
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx512f"))]
    #[inline(always)]
    fn lanes(from: &[Self; LANES]) -> [f32; LANES] {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps};
        // SAFETY: what is built for a CPU with AVX-512 runs on one, the pointer is to as many numbers, and a register has the
        // same bits as an array.
        unsafe { std::mem::transmute(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    /// `half` looks at each number, for those that are none.
    #[inline(always)]
    fn widen(from: &[Self], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
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

/// Those of one layer: `[kv_heads, cells, head]`, so that what one head reads of neighbouring cells is in one piece.
pub struct LayerKv<E> {
    keys: Memory<E>,
    values: Memory<E>,
    cells: usize,
    head: usize,
}

impl KvPool {
    /// Room for `cells` tokens. The system gives the memory when it is first written.
    ///
    /// # Errors
    /// `NO_MEMORY` if the system has not as much.
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
