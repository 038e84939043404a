//! The records that cross once per load, or once per request for facts. Each mirrors a plain struct of the SDK, which documents
//! the fields.

use abi_stable::{
    StableAbi,
    std_types::{ROption, RString, RVec},
};

use crate::{Capabilities, Code, Hints, Interrupt, Reserved, SamplingDefaults, TokenKind};

/// A named fact: room for what a later minor version adds. A reader ignores keys that it does not know. Only a key that begins
/// with `!` must be understood: the reader refuses what has such a key that it does not know. An error with such a key counts
/// as `UNSUPPORTED`.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// A snake_case name of this ABI, or a reverse URI of anybody else.
    pub key: RString,
    /// The value as text.
    pub value: RString,
}

/// `Error` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Error")]
pub struct ErrorRecord {
    pub code: Code,
    pub message: RString,
    pub meta: RVec<KeyValue>,
}

/// `Descriptor` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Descriptor")]
pub struct DescriptorRecord {
    pub id: RString,
    pub name: RString,
    pub version: RString,
    pub vendor: RString,
    pub license: RString,
    pub build: RString,
    pub meta: RVec<KeyValue>,
}

/// `Device` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Device")]
pub struct DeviceRecord {
    pub id: RString,
    pub name: RString,
    pub memory_bytes: u64,
    pub free_bytes: u64,
    pub meta: RVec<KeyValue>,
}

/// `Support` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Support")]
pub struct SupportRecord {
    pub score: u32,
    pub reason: RString,
    pub meta: RVec<KeyValue>,
}

/// `Estimate` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Estimate")]
pub struct EstimateRecord {
    pub device: RString,
    pub weight_bytes: u64,
    pub kv_bytes_per_token: u64,
    pub sequence_bytes: u64,
    pub compute_bytes: u64,
    pub meta: RVec<KeyValue>,
}

/// `LoadArgs` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors LoadArgs")]
pub struct LoadArgsRecord {
    pub path: RString,
    pub devices: RVec<RString>,
    pub quantize: ROption<RString>,
    pub threads: u32,
    pub options: RString,
    pub meta: RVec<KeyValue>,
}

/// `ModelInfo` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors ModelInfo")]
pub struct ModelInfoRecord {
    pub architecture: RString,
    pub parameters: u64,
    pub weight_bytes: u64,
    pub context_length: u32,
    pub vocab_size: u32,
    pub logits_width: u32,
    pub bos: ROption<u32>,
    pub eos: RVec<u32>,
    pub chat_template: ROption<RString>,
    pub tool_chat_template: ROption<RString>,
    pub quantization: RString,
    pub source_quantization: RString,
    pub fallback_tensors: u32,
    pub requantize_levels: RVec<RString>,
    pub capabilities: Capabilities,
    pub sampling: SamplingDefaults,
    pub meta: RVec<KeyValue>,
}

/// `SessionArgs` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone)]
#[expect(missing_docs, reason = "mirrors SessionArgs")]
pub struct SessionArgsRecord {
    pub max_sequences: u32,
    pub kv_tokens: u32,
    pub context_length: u32,
    pub max_batch_tokens: u32,
    pub threads: u32,
    pub interrupt: Interrupt,
    pub meta: RVec<KeyValue>,
}

/// `Vocabulary` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Vocabulary")]
pub struct VocabularyRecord {
    pub bytes: RVec<u8>,
    pub offsets: RVec<u32>,
    pub kinds: RVec<TokenKind>,
    pub meta: RVec<KeyValue>,
}

/// A size without a limit, in what a plugin grants.
pub const UNLIMITED: u32 = u32::MAX;

/// `SessionInfo` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
#[expect(missing_docs, reason = "mirrors SessionInfo")]
pub struct SessionInfoRecord {
    pub max_sequences: u32,
    pub kv_tokens: u32,
    pub context_length: u32,
    pub max_batch_tokens: u32,
    pub max_rows: u32,
    pub max_rollback: u32,
    pub fork_any_len: u32,
    pub costly_idle_tokens: u32,
    pub reserved: Reserved<4>,
    pub hints: Hints<4>,
}

impl SessionInfoRecord {
    /// Whether this version knows all that was granted.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero()
    }
}
