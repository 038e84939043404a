//! Conversion of the SDK's plain types from and to the records that cross the library boundary.

use std::path::PathBuf;

use crate::{
    Descriptor, Device, EmbedderInfo, Error, Estimate, LoadArgs, Meta, ModelInfo, SessionArgs,
    SessionInfo, Support, Vocabulary,
    abi::{
        DescriptorRecord, DeviceRecord, EmbedderInfoRecord, ErrorRecord, EstimateRecord, Hints,
        LoadArgsRecord, ModelInfoRecord, RString, RVec, Reserved, SessionArgsRecord,
        SessionInfoRecord, SupportRecord, VocabularyRecord,
    },
};

impl From<Error> for ErrorRecord {
    fn from(error: Error) -> Self {
        Self {
            code: error.code,
            message: error.message.into(),
            meta: error.meta.into(),
        }
    }
}

impl From<ErrorRecord> for Error {
    fn from(record: ErrorRecord) -> Self {
        let meta = Meta::from(record.meta);
        // What must be understood may change what the code means, so the code is not acted on.
        let mut error = match meta.check() {
            Ok(()) => Self::new(record.code, record.message),
            Err(unknown) => Self::new(
                unknown.code,
                format!("{}; {}", record.message, unknown.message),
            ),
        };
        error.meta = meta;
        error
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
            meta: plain.meta.into(),
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
            meta: record.meta.into(),
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
            meta: plain.meta.into(),
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
            meta: record.meta.into(),
        }
    }
}

impl From<Support> for SupportRecord {
    fn from(plain: Support) -> Self {
        Self {
            score: plain.score,
            reason: plain.reason.into(),
            meta: plain.meta.into(),
        }
    }
}

impl From<SupportRecord> for Support {
    fn from(record: SupportRecord) -> Self {
        Self {
            score: record.score,
            reason: record.reason.into(),
            meta: record.meta.into(),
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
            meta: plain.meta.into(),
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
            meta: record.meta.into(),
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
            meta: plain.meta.into(),
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
            meta: record.meta.clone().into(),
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
            meta: plain.meta.into(),
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
            meta: record.meta.into(),
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
            meta: plain.meta.into(),
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
            meta: record.meta.clone().into(),
        }
    }
}

impl From<Vocabulary> for VocabularyRecord {
    fn from(plain: Vocabulary) -> Self {
        let (bytes, offsets, kinds, meta) = plain.into_parts();
        Self {
            bytes: bytes.into(),
            offsets: offsets.into(),
            kinds: kinds.into(),
            meta: meta.into(),
        }
    }
}

impl TryFrom<VocabularyRecord> for Vocabulary {
    type Error = Error;

    fn try_from(record: VocabularyRecord) -> Result<Self, Error> {
        let (bytes, offsets) = (record.bytes.into(), record.offsets.into());
        let mut vocabulary = Self::from_parts(bytes, offsets, record.kinds.into())?;
        *vocabulary.meta_mut() = record.meta.into();
        Ok(vocabulary)
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
            meta: plain.meta.into(),
        }
    }
}

impl From<EmbedderInfoRecord> for EmbedderInfo {
    fn from(record: EmbedderInfoRecord) -> Self {
        Self {
            dimensions: record.dimensions,
            max_tokens: record.max_tokens,
            pooling: record.pooling.into(),
            meta: record.meta.into(),
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
            reserved: Reserved::default(),
            hints: Hints::default(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Meta, TokenKind};

    /// Checks that a fact arrives with everything else.
    macro_rules! check {
        ($plain:expr => $Record:ty) => {{
            let mut plain = $plain;
            plain.meta.set("org.example.colour", "red");
            let record = <$Record>::from(plain.clone());
            assert_eq!(plain, record.into());
        }};
    }

    #[test]
    fn facts_about_models_and_devices_arrive_with_their_meta() {
        check!(Error::new(Code::IO, "gone") => ErrorRecord);
        check!(Descriptor::new("org.example.a", "A", "1.0") => DescriptorRecord);
        check!(Device::new("cpu", "CPU") => DeviceRecord);
        check!(Support::yes(7, "fits") => SupportRecord);
        check!(Estimate::new("cpu") => EstimateRecord);
        check!(EmbedderInfo::new(4, 512, "mean") => EmbedderInfoRecord);
        let mut info = ModelInfo::new("llama", 8192, 260);
        info.source_quantization = "Q4_1".into();
        info.fallback_tensors = 7;
        info.tool_chat_template = Some("{{ tools }}".into());
        check!(info => ModelInfoRecord);
    }

    #[test]
    fn an_error_with_a_fact_that_must_be_understood_keeps_only_its_message() {
        let mut error = Error::new(Code::NO_KV_SPACE, "the pool is full");
        error.meta.set("!later", "1");
        let arrived = Error::from(ErrorRecord::from(error.clone()));
        assert_eq!(arrived.code, Code::UNSUPPORTED);
        assert_eq!(
            arrived.message,
            "the pool is full; \"!later\" is required, and this side does not know it: update Tenon or the plugin"
        );
        assert_eq!(arrived.meta, error.meta);
    }

    #[test]
    fn requests_and_vocabularies_arrive_with_their_meta() {
        let mut meta = Meta::default();
        meta.set("org.example.colour", "red");
        let load = LoadArgs {
            path: "a.gguf".into(),
            meta: meta.clone(),
            ..LoadArgs::default()
        };
        let record = LoadArgsRecord::from(load.clone());
        assert_eq!(LoadArgs::from(&record), load);
        let session = SessionArgs {
            max_sequences: 3,
            meta: meta.clone(),
            ..SessionArgs::default()
        };
        let session = SessionArgs::from(&SessionArgsRecord::from(session));
        assert_eq!((session.max_sequences, session.meta), (3, meta.clone()));

        let mut vocabulary = Vocabulary::default();
        vocabulary.push(b"a", TokenKind::NORMAL);
        *vocabulary.meta_mut() = meta;
        let record = VocabularyRecord::from(vocabulary.clone());
        assert_eq!(Vocabulary::try_from(record), Ok(vocabulary));
    }

    #[test]
    fn grants_arrive() {
        let mut info = SessionInfo::default();
        (info.max_sequences, info.kv_tokens, info.context_length) = (1, 2, 3);
        (info.max_batch_tokens, info.max_rows, info.max_rollback) = (4, 5, 6);
        (info.fork_any_len, info.costly_idle_tokens) = (true, 7);
        assert_eq!(SessionInfo::from(SessionInfoRecord::from(info)), info);
    }
}
