//! The differences between decoders, as data. The data is read from `config.json` ([`hf`]) or from the metadata of a GGUF
//! file ([`gguf`]).

mod checks;
pub mod gguf;
pub mod hf;
mod rope;
mod sentence_transformers;

pub use rope::{CosSin, Rope, RopeConfig, RopeLayout, RopeScaling};

use checks::{check_context, check_layers};
use tenon_plugin_api::{Error, Pooling, Result};

use crate::kernels::elementwise::Activation;

/// A decoder of the family: RMS norms, rotary positions, grouped-query attention and a gated MLP. Other parts are recognized
/// by their tensors: biases, norms of queries and keys, norms after attention and MLP, an output layer of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name that the file has, for example `llama`.
    pub architecture: String,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    /// Number of KV heads. Each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head: usize,
    /// Positions that the model was trained for.
    pub context_length: u32,
    pub activation: Activation,
    pub norm_epsilon: f32,
    /// Added to the weights of norms: 1 if files store them reduced by 1.
    pub norm_offset: f32,
    pub embedding_scale: f32,
    /// Factor of the products of queries and keys.
    pub attention_scale: f32,
    /// Soft limit of the products of queries and keys.
    pub attention_soft_cap: Option<f32>,
    /// Soft limit of the logits.
    pub logits_soft_cap: Option<f32>,
    pub rope_layout: RopeLayout,
    pub rope: RopeConfig,
    /// RoPE of the local layers, if it differs.
    pub local_rope: Option<RopeConfig>,
    /// How many positions local layers see, the query's own included.
    pub window: Option<u32>,
    /// Which layers are local: `[layers]`.
    pub local: Vec<bool>,
    /// Whether the output uses the embedding's weights even if the file has weights for the output.
    pub tied: bool,
    /// How the vectors of a text's tokens become one vector. None: in a way that this crate does not know.
    pub pooling: Option<Pooling>,
}

/// Properties that an architecture fixes, whatever the file says.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// `model_type` in `config.json`, and `general.architecture` in GGUF files.
    hf: &'static str,
    gguf: &'static str,
    gemma: bool,
    /// Of each `pattern` neighbouring layers, the last is not local. 0: all layers are alike.
    pattern: usize,
    /// Number of layers of Gemma's largest model, whose attention has another scale.
    largest: usize,
    /// Whether local layers have a RoPE of their own.
    two_ropes: bool,
    /// Whether GGUF files have the numbers of a head sorted into pairs.
    paired: bool,
}

const FAMILIES: &[Family] = &[
    Family {
        paired: true,
        ..Family::new("llama", "llama")
    },
    // GGUF files of Mistral models name the architecture Llama.
    Family {
        paired: true,
        ..Family::new("mistral", "llama")
    },
    Family::new("qwen2", "qwen2"),
    Family::new("qwen3", "qwen3"),
    Family {
        gemma: true,
        pattern: 2,
        largest: 46,
        ..Family::new("gemma2", "gemma2")
    },
    Family {
        gemma: true,
        pattern: 6,
        largest: 62,
        two_ropes: true,
        ..Family::new("gemma3_text", "gemma3")
    },
    Family::new("phi3", "phi3"),
];

impl Family {
    const fn new(hf: &'static str, gguf: &'static str) -> Self {
        Self {
            hf,
            gguf,
            gemma: false,
            pattern: 0,
            largest: 0,
            two_ropes: false,
            paired: false,
        }
    }

    /// Which layers are local if the file does not say so: in each `pattern` layers all but the last.
    fn local(&self, layers: usize, pattern: usize) -> Vec<bool> {
        (0..layers)
            .map(|layer| pattern == 0 || layer % pattern < pattern - 1)
            .collect()
    }
}

/// The family of this name, or an error that lists the known names.
fn family(name: &str, known: fn(&Family) -> &'static str) -> Result<&'static Family> {
    let found = FAMILIES.iter().find(|family| known(family) == name);
    found.ok_or_else(|| {
        let mut names: Vec<_> = FAMILIES.iter().map(known).collect();
        names.dedup();
        Error::invalid(format!(
            "the architecture {name:?} is not known to this backend, which has {}: use a backend that has it",
            names.join(", ")
        ))
    })
}

impl Config {
    /// Number of query heads that share one KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How many positions a layer sees, the query's own included. None: all of them.
    pub fn window(&self, layer: usize) -> Option<u32> {
        self.window.filter(|_| self.local[layer])
    }

    /// How many numbers the KV cache holds for one token.
    pub fn kv_numbers_per_token(&self) -> u64 {
        (2 * self.layers * self.kv_heads * self.head) as u64
    }
}
