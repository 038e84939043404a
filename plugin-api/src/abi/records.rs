//! The records that cross once per load, or once per request for facts, and their conversion from and to ordinary Rust. Each
//! mirrors a plain struct at the crate's root, which documents the fields.

use std::path::PathBuf;

use abi_stable::{
    StableAbi,
    std_types::{ROption, RString, RVec},
};

use crate::{
    Capabilities, Code, Descriptor, Device, Error, Estimate, Interrupt, LoadArgs, ModelInfo,
    SamplingDefaults, SessionArgs, Support, TokenKind, Vocabulary,
};

/// A named fact: room for what a later minor version adds.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// A reverse-URI or snake_case name.
    pub key: RString,
    /// The value as text.
    pub value: RString,
}

impl KeyValue {
    fn new(key: &str, value: impl Into<RString>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// [`Error`] in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Error")]
pub struct ErrorRecord {
    pub code: Code,
    pub message: RString,
}

/// [`Descriptor`] in the form that crosses the library boundary.
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

/// [`Device`] in the form that crosses the library boundary.
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

/// [`Support`] in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Support")]
pub struct SupportRecord {
    pub score: u32,
    pub reason: RString,
    pub meta: RVec<KeyValue>,
}

/// [`Estimate`] in the form that crosses the library boundary.
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

/// [`LoadArgs`] in the form that crosses the library boundary.
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

/// [`ModelInfo`] in the form that crosses the library boundary.
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
    pub quantization: RString,
    pub requantize_levels: RVec<RString>,
    pub capabilities: Capabilities,
    pub sampling: SamplingDefaults,
    pub meta: RVec<KeyValue>,
}

/// Key in [`ModelInfoRecord::meta`] of [`ModelInfo::source_quantization`].
const SOURCE_QUANTIZATION: &str = "source_quantization";
/// Key in [`ModelInfoRecord::meta`] of [`ModelInfo::tool_chat_template`]. Missing if the model has no such template.
const TOOL_CHAT_TEMPLATE: &str = "tool_chat_template";
/// Key in [`ModelInfoRecord::meta`] of [`ModelInfo::fallback_tensors`].
const FALLBACK_TENSORS: &str = "fallback_tensors";

/// [`SessionArgs`] in the form that crosses the library boundary.
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

/// [`Vocabulary`] in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors Vocabulary")]
pub struct VocabularyRecord {
    pub bytes: RVec<u8>,
    pub offsets: RVec<u32>,
    pub kinds: RVec<TokenKind>,
    pub meta: RVec<KeyValue>,
}

impl From<Error> for ErrorRecord {
    fn from(error: Error) -> Self {
        Self {
            code: error.code,
            message: error.message.into(),
        }
    }
}

impl From<ErrorRecord> for Error {
    fn from(record: ErrorRecord) -> Self {
        Self::new(record.code, record.message)
    }
}

impl From<Descriptor> for DescriptorRecord {
    fn from(plain: Descriptor) -> Self {
        Self {
            id: plain.id.into(),
            name: plain.name.into(),
            version: plain.version.into(),
            vendor: plain.vendor.into(),
            license: plain.license.into(),
            build: plain.build.into(),
            meta: RVec::new(),
        }
    }
}

impl From<DescriptorRecord> for Descriptor {
    fn from(record: DescriptorRecord) -> Self {
        Self {
            id: record.id.into(),
            name: record.name.into(),
            version: record.version.into(),
            vendor: record.vendor.into(),
            license: record.license.into(),
            build: record.build.into(),
        }
    }
}

impl From<Device> for DeviceRecord {
    fn from(plain: Device) -> Self {
        Self {
            id: plain.id.into(),
            name: plain.name.into(),
            memory_bytes: plain.memory_bytes,
            free_bytes: plain.free_bytes,
            meta: RVec::new(),
        }
    }
}

impl From<DeviceRecord> for Device {
    fn from(record: DeviceRecord) -> Self {
        Self {
            id: record.id.into(),
            name: record.name.into(),
            memory_bytes: record.memory_bytes,
            free_bytes: record.free_bytes,
        }
    }
}

impl From<Support> for SupportRecord {
    fn from(plain: Support) -> Self {
        Self {
            score: plain.score,
            reason: plain.reason.into(),
            meta: RVec::new(),
        }
    }
}

impl From<SupportRecord> for Support {
    fn from(record: SupportRecord) -> Self {
        Self {
            score: record.score,
            reason: record.reason.into(),
        }
    }
}

impl From<Estimate> for EstimateRecord {
    fn from(plain: Estimate) -> Self {
        Self {
            device: plain.device.into(),
            weight_bytes: plain.weight_bytes,
            kv_bytes_per_token: plain.kv_bytes_per_token,
            sequence_bytes: plain.sequence_bytes,
            compute_bytes: plain.compute_bytes,
            meta: RVec::new(),
        }
    }
}

impl From<EstimateRecord> for Estimate {
    fn from(record: EstimateRecord) -> Self {
        Self {
            device: record.device.into(),
            weight_bytes: record.weight_bytes,
            kv_bytes_per_token: record.kv_bytes_per_token,
            sequence_bytes: record.sequence_bytes,
            compute_bytes: record.compute_bytes,
        }
    }
}

impl From<LoadArgs> for LoadArgsRecord {
    fn from(plain: LoadArgs) -> Self {
        Self {
            // A path that is not UTF-8 is refused where it enters the host, so nothing is lost here.
            path: plain.path.to_string_lossy().into_owned().into(),
            devices: strings_out(plain.devices),
            quantize: plain.quantize.map(RString::from).into(),
            threads: plain.threads,
            options: plain.options.into(),
            meta: RVec::new(),
        }
    }
}

impl From<&LoadArgsRecord> for LoadArgs {
    fn from(record: &LoadArgsRecord) -> Self {
        Self {
            path: PathBuf::from(record.path.as_str()),
            devices: strings_in(record.devices.clone()),
            quantize: record.quantize.clone().into_option().map(String::from),
            threads: record.threads,
            options: record.options.to_string(),
        }
    }
}

impl From<ModelInfo> for ModelInfoRecord {
    fn from(plain: ModelInfo) -> Self {
        let mut meta = vec![
            KeyValue::new(SOURCE_QUANTIZATION, plain.source_quantization),
            KeyValue::new(FALLBACK_TENSORS, plain.fallback_tensors.to_string()),
        ];
        meta.extend(
            plain
                .tool_chat_template
                .map(|template| KeyValue::new(TOOL_CHAT_TEMPLATE, template)),
        );
        Self {
            architecture: plain.architecture.into(),
            parameters: plain.parameters,
            weight_bytes: plain.weight_bytes,
            context_length: plain.context_length,
            vocab_size: plain.vocab_size,
            logits_width: plain.logits_width,
            bos: plain.bos.into(),
            eos: plain.eos.into(),
            chat_template: plain.chat_template.map(RString::from).into(),
            quantization: plain.quantization.into(),
            requantize_levels: strings_out(plain.requantize_levels),
            capabilities: plain.capabilities,
            sampling: plain.sampling,
            meta: meta.into(),
        }
    }
}

impl From<ModelInfoRecord> for ModelInfo {
    fn from(record: ModelInfoRecord) -> Self {
        Self {
            architecture: record.architecture.into(),
            parameters: record.parameters,
            weight_bytes: record.weight_bytes,
            context_length: record.context_length,
            vocab_size: record.vocab_size,
            logits_width: record.logits_width,
            bos: record.bos.into(),
            eos: record.eos.into(),
            chat_template: record.chat_template.into_option().map(String::from),
            tool_chat_template: Some(text(&record.meta, TOOL_CHAT_TEMPLATE))
                .filter(|template| !template.is_empty())
                .map(String::from),
            quantization: record.quantization.into(),
            source_quantization: text(&record.meta, SOURCE_QUANTIZATION).into(),
            fallback_tensors: text(&record.meta, FALLBACK_TENSORS)
                .parse()
                .unwrap_or_default(),
            requantize_levels: strings_in(record.requantize_levels),
            capabilities: record.capabilities,
            sampling: record.sampling,
        }
    }
}

impl From<SessionArgs> for SessionArgsRecord {
    fn from(plain: SessionArgs) -> Self {
        Self {
            max_sequences: plain.max_sequences,
            kv_tokens: plain.kv_tokens,
            context_length: plain.context_length,
            max_batch_tokens: plain.max_batch_tokens,
            threads: plain.threads,
            interrupt: plain.interrupt,
            meta: RVec::new(),
        }
    }
}

impl From<&SessionArgsRecord> for SessionArgs {
    fn from(record: &SessionArgsRecord) -> Self {
        Self {
            max_sequences: record.max_sequences,
            kv_tokens: record.kv_tokens,
            context_length: record.context_length,
            max_batch_tokens: record.max_batch_tokens,
            threads: record.threads,
            interrupt: record.interrupt.clone(),
        }
    }
}

impl From<Vocabulary> for VocabularyRecord {
    fn from(plain: Vocabulary) -> Self {
        let (bytes, offsets, kinds) = plain.into_parts();
        Self {
            bytes: bytes.into(),
            offsets: offsets.into(),
            kinds: kinds.into(),
            meta: RVec::new(),
        }
    }
}

impl TryFrom<VocabularyRecord> for Vocabulary {
    type Error = Error;

    fn try_from(record: VocabularyRecord) -> Result<Self, Error> {
        Self::from_parts(
            record.bytes.into(),
            record.offsets.into(),
            record.kinds.into(),
        )
    }
}

/// The value of a key; empty if the key is missing.
fn text<'a>(meta: &'a [KeyValue], key: &str) -> &'a str {
    let found = meta.iter().find(|fact| fact.key == key);
    found.map_or("", |fact| fact.value.as_str())
}

fn strings_out(plain: Vec<String>) -> RVec<RString> {
    plain.into_iter().map(RString::from).collect()
}

fn strings_in(record: RVec<RString>) -> Vec<String> {
    record.into_iter().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_that_cross_in_meta_arrive() {
        let info = ModelInfo {
            source_quantization: "Q4_1".into(),
            fallback_tensors: 7,
            tool_chat_template: Some("{{ tools }}".into()),
            ..ModelInfo::default()
        };
        assert_eq!(ModelInfo::from(ModelInfoRecord::from(info.clone())), info);
    }

    #[test]
    fn facts_of_a_plugin_that_does_not_know_them_are_empty() {
        let mut record = ModelInfoRecord::from(ModelInfo::default());
        record.meta.clear();
        assert_eq!(ModelInfo::from(record), ModelInfo::default());
    }
}
