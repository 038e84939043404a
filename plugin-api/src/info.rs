//! Facts about plugins, devices, models and vocabularies, as ordinary Rust types.

#[cfg(feature = "serde")]
mod vocabulary_serde;

use std::path::PathBuf;

use crate::{Capabilities, Error, Interrupt, Meta, Result, SamplingDefaults, TokenKind};

/// A device that a model can be loaded to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Name that configuration uses, for example `cpu` or `cuda:0`.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Size of its memory in bytes; 0 where unknown.
    pub memory_bytes: u64,
    /// Free memory in bytes at the time of the call; 0 where unknown.
    pub free_bytes: u64,
    /// More facts. This version knows `kernels`, which [`with_kernels`](Self::with_kernels) sets.
    pub meta: Meta,
}

/// A key of [`Device::meta`].
const KERNELS: &str = "kernels";

impl Device {
    /// A device whose memory is unknown.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// Says which instructions or kernels compute on the device, in a few words, for example `AVX2`. `tenon doctor` shows it.
    pub fn with_kernels(mut self, kernels: impl Into<String>) -> Self {
        self.meta.set(KERNELS, kernels);
        self
    }

    /// Which instructions or kernels compute on the device. None if the plugin does not say.
    pub fn kernels(&self) -> Option<&str> {
        self.meta.get(KERNELS)
    }
}

/// Whether, and how well, a backend fits a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Support {
    /// 0 = not at all, 100 = made for it; more counts as 100. A file without a configured backend goes to the backend with
    /// the highest score.
    pub score: u32,
    /// Why, in a few words. Shown when no backend fits.
    pub reason: String,
    /// More facts.
    pub meta: Meta,
}

impl Support {
    /// This backend cannot load the file.
    pub fn no(reason: impl Into<String>) -> Self {
        Self {
            score: 0,
            reason: reason.into(),
            meta: Meta::default(),
        }
    }

    /// This backend can load the file, with this score (1 to 100).
    pub fn yes(score: u32, reason: impl Into<String>) -> Self {
        Self {
            score,
            reason: reason.into(),
            meta: Meta::default(),
        }
    }
}

/// Memory that a model would take on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// The [`Device::id`].
    pub device: String,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes of KV cache per token.
    pub kv_bytes_per_token: u64,
    /// Bytes per sequence, whatever its length.
    pub sequence_bytes: u64,
    /// Bytes of scratch space.
    pub compute_bytes: u64,
    /// More facts.
    pub meta: Meta,
}

impl Estimate {
    /// An estimate of nothing for the device with this id.
    pub fn new(device: impl Into<String>) -> Self {
        Self {
            device: device.into(),
            ..Self::default()
        }
    }
}

/// What to load, and how. Later versions add fields: to make one, end with `..LoadArgs::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LoadArgs {
    /// The model's file or directory. UTF-8.
    pub path: PathBuf,
    /// [`Device::id`]s to use. Empty: the backend decides.
    pub devices: Vec<String>,
    /// Level to quantize to while loading, for example `Q8_0`. None: the level of the file. A backend that cannot quantize
    /// answers `UNSUPPORTED`.
    pub quantize: Option<String>,
    /// Threads that may be used. 0: as many as [`Host::threads`](crate::Host::threads) says.
    pub threads: u32,
    /// The model's own options as a JSON object; `{}` without any.
    pub options: String,
    /// More arguments. The SDK refuses those that must be understood and that it does not know.
    pub meta: Meta,
}

/// Facts about a loaded model. The host refuses a model with a `context_length` or `vocab_size` of 0, a `logits_width` below
/// `vocab_size`, or a `bos` or `eos` that is no token.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ModelInfo {
    /// For example `llama`.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes that the weights take in memory.
    pub weight_bytes: u64,
    /// Positions (tokens) that the model was trained for.
    pub context_length: u32,
    /// Number of tokens. Every id in a [`Vocabulary`] and every sampled token is below it.
    pub vocab_size: u32,
    /// Length of a row of logits, at least `vocab_size` (some models pad their rows).
    pub logits_width: u32,
    /// The token that begins a sequence; None if the model has none. Chat templates get its text.
    pub bos: Option<u32>,
    /// Every token that ends a generation (end of text, end of turn, end of message). Chat templates get the text of the
    /// first. If empty, only `max_tokens` and the context length end a generation.
    pub eos: Vec<u32>,
    /// Jinja source with Hugging Face semantics. None: the model cannot chat.
    pub chat_template: Option<String>,
    /// The template for chats with tools, if the model has a separate one (`tokenizer.chat_template.tool_use` in GGUF
    /// files). None: `chat_template` is for all chats.
    pub tool_chat_template: Option<String>,
    /// Current level of the weights, for example `Q4_1`; [`levels`](crate::levels) has the names. May be empty.
    pub quantization: String,
    /// Level of the weights on disk, which other levels are made from. Empty: the same as `quantization`.
    pub source_quantization: String,
    /// Number of tensors whose type differs from the level, because their shape does not divide into its blocks.
    pub fallback_tensors: u32,
    /// Levels that [`Model::requantize`](crate::Model::requantize) takes, from the most to the least faithful, named as in
    /// [`levels`](crate::levels). The host accepts other spellings and passes one of these names.
    pub requantize_levels: Vec<String>,
    /// What the model can do beyond the basics.
    pub capabilities: Capabilities,
    /// What the model's makers recommend.
    pub sampling: SamplingDefaults,
    /// More facts.
    pub meta: Meta,
}

impl ModelInfo {
    /// A model with the facts that every model has. Its rows have `vocab_size` logits.
    pub fn new(architecture: impl Into<String>, context_length: u32, vocab_size: u32) -> Self {
        Self {
            architecture: architecture.into(),
            context_length,
            vocab_size,
            logits_width: vocab_size,
            ..Self::default()
        }
    }

    /// Says that the model generates no text, as encoders do: it only makes embeddings, or judges texts. The host then refuses
    /// requests for text, and makes no session of the model.
    pub fn set_without_text(&mut self) {
        self.meta.set(TEXT, "none");
    }

    /// Whether the model generates text.
    pub fn generates_text(&self) -> bool {
        self.meta.get(TEXT) != Some("none")
    }
}

/// The fact that says whether a model generates text.
const TEXT: &str = "text";

/// What the host asks of a session. Later versions add fields: to make one, end with `..SessionArgs::default()`.
#[derive(Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionArgs {
    /// Number of sequences at once, at least 1.
    pub max_sequences: u32,
    /// Size of the KV pool in tokens, shared by all sequences. 0: the plugin decides.
    pub kv_tokens: u32,
    /// Longest that a sequence may become, in tokens. 0: as long as the model was trained for.
    pub context_length: u32,
    /// Most tokens in one batch, at least 1.
    pub max_batch_tokens: u32,
    /// Threads for computing. 0: as many as [`Host::threads`](crate::Host::threads) says.
    pub threads: u32,
    /// Set by the host to stop a running `forward`, because nobody waits for it any more.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub interrupt: Interrupt,
    /// More arguments. The SDK refuses those that must be understood and that it does not know.
    pub meta: Meta,
}

/// The bytes and the kind of every token. They are bytes and not text, because a token may hold half a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    kinds: Vec<TokenKind>,
    meta: Meta,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0],
            kinds: Vec::new(),
            meta: Meta::default(),
        }
    }
}

impl Vocabulary {
    /// Appends the next token: its id is [`len`](Self::len) before the call.
    pub fn push(&mut self, bytes: &[u8], kind: TokenKind) {
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as u32);
        self.kinds.push(kind);
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Bytes of a token; empty for ids that do not exist.
    pub fn bytes(&self, token: u32) -> &[u8] {
        let at = token as usize;
        match (self.offsets.get(at), self.offsets.get(at + 1)) {
            (Some(&from), Some(&to)) => &self.bytes[from as usize..to as usize],
            _ => &[],
        }
    }

    /// Kind of a token; [`TokenKind::NORMAL`] for ids that do not exist.
    pub fn kind(&self, token: u32) -> TokenKind {
        self.kinds.get(token as usize).copied().unwrap_or_default()
    }

    /// More facts.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// More facts, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    /// Flat bytes, `len() + 1` offsets into them, kinds, and more facts.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<u32>, Vec<TokenKind>, Meta) {
        (self.bytes, self.offsets, self.kinds, self.meta)
    }

    /// The reverse of `into_parts`. Checks the parts, because the other side made them.
    pub(crate) fn from_parts(
        bytes: Vec<u8>,
        offsets: Vec<u32>,
        kinds: Vec<TokenKind>,
    ) -> Result<Self> {
        let whole = offsets.first() == Some(&0)
            && offsets.len() == kinds.len() + 1
            && offsets.is_sorted()
            && offsets
                .last()
                .is_some_and(|&end| end as usize == bytes.len());
        if !whole {
            return Err(Error::invalid(
                "the plugin's vocabulary has offsets that do not fit its bytes",
            ));
        }
        Ok(Self {
            bytes,
            offsets,
            kinds,
            meta: Meta::default(),
        })
    }
}
