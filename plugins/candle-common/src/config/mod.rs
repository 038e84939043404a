//! What makes one decoder another, as data. Read from `config.json` ([`hf`]) or from the metadata of a GGUF file ([`gguf`]).

pub mod gguf;
pub mod hf;
mod rope;
mod sentence_transformers;

pub use rope::{Rope, RopeConfig, RopeLayout, RopeScaling, Turns};

use tenon_plugin_api::{Error, Pooling, Result};

use crate::kernels::elementwise::Activation;

/// A decoder of the family: root mean square norms, rotary positions, grouped queries and a gated MLP. What else there is
/// (biases, norms of queries and keys, norms behind attention and MLP, an output of its own) shows in the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// As the file writes it, for example `llama`.
    pub architecture: String,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` heads of queries.
    pub kv_heads: usize,
    pub head: usize,
    /// Positions that the model was trained for.
    pub context_length: u32,
    pub activation: Activation,
    pub norm_epsilon: f32,
    /// Added to the weights of norms: 1 where files store them less 1.
    pub norm_offset: f32,
    pub embedding_scale: f32,
    /// What products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// Keeps products of queries and keys within this.
    pub attention_soft_cap: Option<f32>,
    /// Keeps logits within this.
    pub logits_soft_cap: Option<f32>,
    pub rope_layout: RopeLayout,
    pub rope: RopeConfig,
    /// Of local layers, where it differs.
    pub local_rope: Option<RopeConfig>,
    /// How many positions local layers look back, their own included.
    pub window: Option<u32>,
    /// Which layers are local: `[layers]`.
    pub local: Vec<bool>,
    /// Whether the output shares the embedding's weights even if the file has others.
    pub tied: bool,
    /// How a text's vector is made of those of its tokens. None: in a way that is not known.
    pub pooling: Option<Pooling>,
}

/// What an architecture fixes, whatever the file says.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// `model_type` in `config.json`, and `general.architecture` in GGUF files.
    hf: &'static str,
    gguf: &'static str,
    gemma: bool,
    /// How many neighbouring layers have one that is not local. 0: all are alike.
    pattern: usize,
    /// GGUF files have the numbers of heads sorted into pairs.
    paired: bool,
}

const FAMILIES: &[Family] = &[
    Family::new("llama", "llama").paired(),
    // Converted as Llama.
    Family::new("mistral", "llama").paired(),
    Family::new("qwen2", "qwen2"),
    Family::new("qwen3", "qwen3"),
    Family::new("gemma2", "gemma2").gemma(2),
    Family::new("gemma3_text", "gemma3").gemma(6),
    Family::new("phi3", "phi3"),
];

impl Family {
    const fn new(hf: &'static str, gguf: &'static str) -> Self {
        Self {
            hf,
            gguf,
            gemma: false,
            pattern: 0,
            paired: false,
        }
    }

    const fn gemma(self, pattern: usize) -> Self {
        Self {
            gemma: true,
            pattern,
            ..self
        }
    }

    const fn paired(self) -> Self {
        Self {
            paired: true,
            ..self
        }
    }

    /// Which layers are local where the file does not say: of each `pattern` the last is not.
    fn local(&self, layers: usize, pattern: usize) -> Vec<bool> {
        (0..layers)
            .map(|layer| pattern == 0 || layer % pattern < pattern - 1)
            .collect()
    }
}

/// The family of a name, or the error that lists the known ones.
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
    /// Query heads that share one head of keys and values.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How far back a layer looks. None: to the first position.
    pub fn window(&self, layer: usize) -> Option<u32> {
        self.window.filter(|_| self.local[layer])
    }

    /// Numbers that the KV cache holds for one token.
    pub fn kv_numbers_per_token(&self) -> u64 {
        (2 * self.layers * self.kv_heads * self.head) as u64
    }

    /// Checks what every computation relies on.
    fn checked(self) -> Result<Self> {
        let sizes = [
            ("layers", self.layers),
            ("hidden size", self.hidden),
            ("attention heads", self.heads),
            ("key-value heads", self.kv_heads),
            ("head size", self.head),
            ("context length", self.context_length as usize),
        ];
        if let Some((what, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::invalid(format!(
                "the model's configuration has 0 {what}"
            )));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::invalid(format!(
                "the model's {} attention heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        let ropes = [Some(&self.rope), self.local_rope.as_ref()];
        if ropes
            .iter()
            .flatten()
            .any(|rope| rope.dimensions > self.head || rope.dimensions % 2 == 1)
        {
            return Err(Error::invalid(format!(
                "the model's rotary dimensions are odd or more than the {} of a head",
                self.head
            )));
        }
        Ok(self)
    }
}
