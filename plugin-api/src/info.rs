//! Facts about plugins, devices, models and vocabularies, as ordinary Rust types.

#[cfg(feature = "serde")]
mod vocabulary_serde;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use abi_stable::{
    StableAbi,
    std_types::{RArc, ROption},
};

use crate::{Code, Error, Result};

/// Who a plugin is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// A reverse URI that never changes, for example `org.tenon.echo`: ASCII letters, digits, `-` and `_`, with at least one
    /// dot. The configuration names the backend by this id. A process has only one plugin of the same id.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Who makes it.
    pub vendor: String,
    /// SPDX expression.
    pub license: String,
    /// What the plugin was built from and for, for bug reports. May be empty.
    pub build: String,
}

impl Descriptor {
    /// A descriptor with the fields that every plugin has.
    pub fn new(id: impl Into<String>, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            version: version.into(),
            ..Self::default()
        }
    }
}

/// A device that a model can be loaded to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Name that configuration uses, for example `cpu` or `cuda:0`.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Size of its memory in bytes; 0 where unknown.
    pub memory_bytes: u64,
    /// Free memory in bytes at the time of the call; 0 where unknown.
    pub free_bytes: u64,
}

/// How well a backend fits a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// 0 = not at all, 100 = made for it; more counts as 100. A file without a configured backend goes to the backend with
    /// the highest score.
    pub score: u32,
    /// Why, in a few words. Shown when no backend fits.
    pub reason: String,
}

impl Support {
    /// This backend cannot load the file.
    pub fn no(reason: impl Into<String>) -> Self {
        Self {
            score: 0,
            reason: reason.into(),
        }
    }

    /// This backend can load the file, with this score (1 to 100).
    pub fn yes(score: u32, reason: impl Into<String>) -> Self {
        Self {
            score,
            reason: reason.into(),
        }
    }
}

/// Memory that a model would take on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
}

/// What to load, and how.
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
}

/// What a model can do beyond the basics, as bits.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// `encode` of a continuation gives the tokens that the model itself writes for it, and the bytes of these tokens are
    /// the text. With this the host can insert tokens that a grammar forces, without asking the model for each.
    pub const CANONICAL_TOKENIZER: Self = Self(1);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Sampling parameters that the model's makers recommend. None: they recommend no value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SamplingDefaults {
    temperature: ROption<f32>,
    top_p: ROption<f32>,
    min_p: ROption<f32>,
    top_k: ROption<u32>,
    repetition_penalty: ROption<f32>,
    reserved: [u64; 4],
}

macro_rules! sampling_defaults {
    ($($field:ident, $with:ident: $type:ty;)*) => {
        impl SamplingDefaults {
            /// These values, and those of `others` where these are None.
            pub fn or(self, others: Self) -> Self {
                Self { $($field: self.$field.or(others.$field),)* ..self }
            }

            $(
                #[doc = concat!("The recommended `", stringify!($field), "`.")]
                pub fn $field(&self) -> Option<$type> { self.$field.into_option() }
                #[doc = concat!("The same with this `", stringify!($field), "`.")]
                pub fn $with(self, value: $type) -> Self {
                    Self { $field: ROption::RSome(value), ..self }
                }
            )*
        }
    };
}

sampling_defaults! {
    temperature, with_temperature: f32;
    top_p, with_top_p: f32;
    min_p, with_min_p: f32;
    top_k, with_top_k: u32;
    repetition_penalty, with_repetition_penalty: f32;
}

/// Facts about a loaded model. The host refuses a model with a `context_length` or `vocab_size` of 0, a `logits_width` below
/// `vocab_size`, or a `bos` or `eos` that is no token.
#[derive(Clone, Debug, Default, PartialEq)]
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
}

/// What the host asks of a session.
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
}

/// A flag that the host sets from another thread to stop a long call. Poll it where that is cheap, and return
/// [`Code::CANCELLED`].
#[repr(transparent)]
#[derive(StableAbi, Clone)]
pub struct Interrupt(RArc<AtomicU32>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(RArc::new(AtomicU32::new(0)))
    }
}

impl Interrupt {
    /// `[any thread]` Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// `[any thread]` Whether to go on.
    ///
    /// # Errors
    /// [`Code::CANCELLED`] if the call has to stop: clean up and return this error.
    pub fn check(&self) -> Result<()> {
        match self.is_set() {
            true => Err(Error::new(Code::CANCELLED, "the host stopped the call")),
            false => Ok(()),
        }
    }

    /// `[any thread]` For the host: asks the call to stop, or takes that back.
    pub fn set(&self, stop: bool) {
        self.0.store(stop.into(), Ordering::Relaxed);
    }
}

/// What a token is. An open enumeration; unknown kinds are treated as [`TokenKind::NORMAL`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TokenKind(pub u8);

impl TokenKind {
    /// Ordinary text.
    pub const NORMAL: Self = Self(0);
    /// Steers the model and is not text, for example `<|im_end|>`. Its bytes are its written form.
    pub const CONTROL: Self = Self(1);
    /// Stands for one byte (SentencePiece `<0x0A>`). Its bytes are that byte.
    pub const BYTE: Self = Self(2);
    /// Never used by the model.
    pub const UNUSED: Self = Self(3);
    /// The unknown token.
    pub const UNKNOWN: Self = Self(4);
    /// Added after training as a whole word, such as `<tool_call>`. It is found before a text is split, but is printed as
    /// text.
    pub const USER_DEFINED: Self = Self(5);
}

/// The bytes and the kind of every token. They are bytes and not text, because a token may hold half a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    kinds: Vec<TokenKind>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0],
            kinds: Vec::new(),
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

    /// Flat bytes, `len() + 1` offsets into them, and kinds.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<u32>, Vec<TokenKind>) {
        (self.bytes, self.offsets, self.kinds)
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
        })
    }
}

/// How [`Tokenizer::encode`](crate::Tokenizer::encode) reads a text, as bits.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EncodeFlags(pub u32);

impl EncodeFlags {
    /// Plain text: no control tokens, nothing added.
    pub const NONE: Self = Self(0);
    /// Text that spells a control token becomes that token. Without this flag it is encoded as ordinary text.
    pub const PARSE_CONTROL: Self = Self(1);
    /// Adds BOS (and EOS) if the model is configured so.
    pub const ADD_SPECIAL: Self = Self(1 << 1);
    /// The text continues another: no SentencePiece space prefix.
    pub const CONTINUATION: Self = Self(1 << 2);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for EncodeFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
