//! Conversion of the SDK's plain types from and to the records that cross the library boundary.

use std::path::PathBuf;

use crate::{
    Descriptor, Device, EmbedderInfo, Error, Estimate, LoadArgs, ModelInfo, SessionArgs, SessionInfo,
    Support, Vocabulary,
    abi::{
        DescriptorRecord, DeviceRecord, EmbedderInfoRecord, ErrorRecord, EstimateRecord,
        LoadArgsRecord, ModelInfoRecord, RString, RVec, SessionArgsRecord, SessionInfoRecord,
        SupportRecord, VocabularyRecord,
    },
};

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
            tool_chat_template: plain.tool_chat_template.map(RString::from).into(),
            quantization: plain.quantization.into(),
            source_quantization: plain.source_quantization.into(),
            fallback_tensors: plain.fallback_tensors,
            requantize_levels: strings_out(plain.requantize_levels),
            capabilities: plain.capabilities,
            sampling: plain.sampling,
            meta: RVec::new(),
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
            tool_chat_template: record.tool_chat_template.into_option().map(String::from),
            quantization: record.quantization.into(),
            source_quantization: record.source_quantization.into(),
            fallback_tensors: record.fallback_tensors,
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

fn strings_out(plain: Vec<String>) -> RVec<RString> {
    plain.into_iter().map(RString::from).collect()
}

fn strings_in(record: RVec<RString>) -> Vec<String> {
    record.into_iter().map(String::from).collect()
}

impl From<EmbedderInfo> for EmbedderInfoRecord {
    fn from(plain: EmbedderInfo) -> Self {
        Self {
            dimensions: plain.dimensions,
            max_tokens: plain.max_tokens,
            pooling: plain.pooling.into(),
            meta: RVec::new(),
        }
    }
}

impl From<EmbedderInfoRecord> for EmbedderInfo {
    fn from(record: EmbedderInfoRecord) -> Self {
        Self {
            dimensions: record.dimensions,
            max_tokens: record.max_tokens,
            pooling: record.pooling.into(),
        }
    }
}

impl From<SessionInfo> for SessionInfoRecord {
    fn from(plain: SessionInfo) -> Self {
        Self {
            max_sequences: plain.max_sequences,
            kv_tokens: plain.kv_tokens,
            context_length: plain.context_length,
            max_batch_tokens: plain.max_batch_tokens,
            max_rows: plain.max_rows,
            max_rollback: plain.max_rollback,
            fork_any_len: plain.fork_any_len.into(),
            costly_idle_tokens: plain.costly_idle_tokens,
            reserved: [0; 6],
        }
    }
}

impl From<SessionInfoRecord> for SessionInfo {
    fn from(record: SessionInfoRecord) -> Self {
        Self {
            max_sequences: record.max_sequences,
            kv_tokens: record.kv_tokens,
            context_length: record.context_length,
            max_batch_tokens: record.max_batch_tokens,
            max_rows: record.max_rows,
            max_rollback: record.max_rollback,
            fork_any_len: record.fork_any_len != 0,
            costly_idle_tokens: record.costly_idle_tokens,
        }
    }
}
