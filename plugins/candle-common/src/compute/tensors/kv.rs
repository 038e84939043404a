//! The KV pool on a device.

use candle_core::{DType, Device, Result, Tensor};

use crate::{config::Config, kv::KvType};

/// Keys and values of every layer.
pub struct DeviceKv {
    #[cfg(feature = "cuda")]
    pub kind: DType,
    layers: Vec<DeviceLayerKv>,
}

/// Keys and values of one layer, each `[cells, kv_heads, head]`.
struct DeviceLayerKv {
    keys: Tensor,
    values: Tensor,
}

/// Some cells of the pool.
pub enum Cells {
    /// Consecutive cells, which need not be copied.
    Run { first: usize, len: usize },
    /// Any cells, by their numbers.
    Scattered(Tensor),
}

impl DeviceKv {
    pub fn new(config: &Config, kind: KvType, cells: u32, device: &Device) -> Result<Self> {
        let kind = match kind {
            KvType::F32 => DType::F32,
            KvType::F16 => DType::F16,
            KvType::Bf16 => DType::BF16,
        };
        let shape = (cells as usize, config.kv_heads, config.head);
        let numbers = || Tensor::zeros(shape, kind, device);
        let layer = |_| {
            Ok(DeviceLayerKv {
                keys: numbers()?,
                values: numbers()?,
            })
        };
        Ok(Self {
            #[cfg(feature = "cuda")]
            kind,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// Stores the keys and values of tokens, each `[tokens, kv_heads, head]`.
    pub fn write(
        &mut self,
        layer: usize,
        cells: &Cells,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<()> {
        let layer = &self.layers[layer];
        cells.write(&layer.keys, keys)?;
        cells.write(&layer.values, values)
    }

    /// The keys and values of some cells, each `[cells, kv_heads, head]`.
    pub fn read(&self, layer: usize, cells: &Cells) -> Result<[Tensor; 2]> {
        let layer = &self.layers[layer];
        Ok([cells.read(&layer.keys)?, cells.read(&layer.values)?])
    }
}

impl Cells {
    pub fn new(numbers: &[u32], device: &Device) -> Result<Self> {
        let mut runs = numbers.chunk_by(|a, b| a + 1 == *b);
        Ok(match (runs.next(), runs.next()) {
            (Some(run), None) => Self::Run {
                first: run[0] as usize,
                len: run.len(),
            },
            _ => Self::Scattered(Tensor::new(numbers, device)?),
        })
    }

    fn write(&self, pool: &Tensor, rows: &Tensor) -> Result<()> {
        let rows = rows.to_dtype(pool.dtype())?.contiguous()?;
        match self {
            Self::Run { first, .. } => pool.slice_set(&rows, 0, *first),
            Self::Scattered(numbers) => {
                let numbers = numbers.reshape(((), 1, 1))?;
                let numbers = numbers.broadcast_as(rows.shape())?.contiguous()?;
                pool.scatter_set(&numbers, &rows, 0)
            }
        }
    }

    fn read(&self, pool: &Tensor) -> Result<Tensor> {
        match self {
            Self::Run { first, len } => pool.narrow(0, *first, *len),
            Self::Scattered(numbers) => pool.index_select(numbers, 0),
        }
    }
}
