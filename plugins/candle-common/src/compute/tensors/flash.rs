//! Flash attention: all spans of a batch in one call.

use candle_core::{DType, Device, Result, Tensor};
use candle_flash_attn::flash_attn_varlen_alibi_windowed_softcap;

use crate::config::Config;

/// The largest head size that every GPU has room for.
const LARGEST_HEAD: usize = 256;

/// The description of a batch that the kernel takes.
pub struct Flash {
    /// Where each span's queries and keys begin, followed by where the last ones end: each `[spans + 1]`.
    queries: Tensor,
    keys: Tensor,
    most_queries: usize,
    most_keys: usize,
    /// How many positions a query sees before its own.
    before: Option<usize>,
}

impl Flash {
    /// Whether the kernel supports these types and sizes.
    pub fn serves(config: &Config, kv: DType, device: &Device) -> bool {
        let known = matches!(kv, DType::F16 | DType::BF16);
        let fits = config.head <= LARGEST_HEAD && config.head.is_multiple_of(8);
        device.is_cuda() && known && fits
    }

    /// `lens` has each span's numbers of queries and keys. For the kernel, a span's queries and keys end at the same
    /// position.
    pub fn new(lens: &[[usize; 2]], window: Option<u32>, device: &Device) -> Result<Self> {
        let starts = |which: usize| {
            let ends = lens.iter().scan(0, |end, lens| {
                *end += lens[which] as u32;
                Some(*end)
            });
            let starts: Vec<_> = [0].into_iter().chain(ends).collect();
            Tensor::new(starts, device)
        };
        let most = |which: usize| lens.iter().map(|lens| lens[which]).max().unwrap_or(0);
        Ok(Self {
            queries: starts(0)?,
            keys: starts(1)?,
            most_queries: most(0),
            most_keys: most(1),
            before: window.map(|window| window.saturating_sub(1) as usize),
        })
    }

    /// `queries` is `[tokens, heads, head]`, keys and values are `[keys, kv_heads, head]`. Returns floats, `[tokens, heads ·
    /// head]`.
    pub fn attend(
        &self,
        config: &Config,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let attended = flash_attn_varlen_alibi_windowed_softcap(
            &queries.to_dtype(keys.dtype())?,
            keys,
            values,
            None,
            &self.queries,
            &self.keys,
            self.most_queries,
            self.most_keys,
            config.attention_scale,
            self.before,
            Some(0),
            config.attention_soft_cap.unwrap_or(0.0),
        )?;
        attended.flatten_from(1)?.to_dtype(DType::F32)
    }
}
