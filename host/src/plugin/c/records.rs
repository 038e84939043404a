//! The records of plugins in C, as the plain types of the SDK.

use tenon_plugin_api::{
    Capabilities, Device, EmbedderInfo, Estimate, ModelInfo, SamplingDefaults, Support, TokenKind,
    abi::c::{self, Strs, Tokens},
};

use super::{
    call::SinkRecord,
    read::{flag, list, meta, optional_text, text},
};

impl SinkRecord for c::Device {
    type Plain = Device;

    unsafe fn plain(&self) -> Result<Device, String> {
        // SAFETY: the caller says so.
        unsafe {
            let mut device = Device::new(text(self.id, "id")?, text(self.name, "name")?);
            device.memory_bytes = self.memory_bytes;
            device.free_bytes = self.free_bytes;
            device.meta = meta(self.meta)?;
            Ok(device)
        }
    }
}

impl SinkRecord for c::Support {
    type Plain = Support;

    unsafe fn plain(&self) -> Result<Support, String> {
        // SAFETY: the caller says so.
        unsafe {
            let mut support = Support::yes(self.score, text(self.reason, "reason")?);
            support.meta = meta(self.meta)?;
            Ok(support)
        }
    }
}

impl SinkRecord for c::Estimate {
    type Plain = Estimate;

    unsafe fn plain(&self) -> Result<Estimate, String> {
        // SAFETY: the caller says so.
        unsafe {
            let mut estimate = Estimate::new(text(self.device, "device")?);
            estimate.weight_bytes = self.weight_bytes;
            estimate.kv_bytes_per_token = self.kv_bytes_per_token;
            estimate.sequence_bytes = self.sequence_bytes;
            estimate.compute_bytes = self.compute_bytes;
            estimate.meta = meta(self.meta)?;
            Ok(estimate)
        }
    }
}

impl SinkRecord for c::ModelInfo {
    type Plain = ModelInfo;

    unsafe fn plain(&self) -> Result<ModelInfo, String> {
        // SAFETY: the caller says so.
        unsafe {
            let architecture = text(self.architecture, "architecture")?;
            let mut info = ModelInfo::new(architecture, self.context_length, self.vocab_size);
            info.parameters = self.parameters;
            info.weight_bytes = self.weight_bytes;
            info.logits_width = self.logits_width;
            info.bos = flag(self.has_bos, "has_bos")?.then_some(self.bos);
            info.eos = tokens(&self.eos, "eos")?;
            info.chat_template = optional_text(self.chat_template, "chat_template")?;
            info.tool_chat_template = optional_text(self.tool_chat_template, "tool_chat_template")?;
            info.quantization = text(self.quantization, "quantization")?;
            info.source_quantization = text(self.source_quantization, "source_quantization")?;
            info.fallback_tensors = self.fallback_tensors;
            info.requantize_levels = texts(self.requantize_levels, "requantize_levels")?;
            info.capabilities = Capabilities(self.capabilities);
            info.sampling = sampling(self);
            info.meta = meta(self.meta)?;
            Ok(info)
        }
    }
}

impl SinkRecord for c::Token {
    type Plain = (Vec<u8>, TokenKind);

    unsafe fn plain(&self) -> Result<Self::Plain, String> {
        // SAFETY: the caller says so.
        let bytes = unsafe { list(self.bytes, self.bytes_len, "bytes")? };
        let kind = u8::try_from(self.kind).map(TokenKind);
        Ok((bytes.to_vec(), kind.unwrap_or(TokenKind::NORMAL)))
    }
}

impl SinkRecord for c::EmbedderInfo {
    type Plain = EmbedderInfo;

    unsafe fn plain(&self) -> Result<EmbedderInfo, String> {
        // SAFETY: the caller says so.
        unsafe {
            let pooling = text(self.pooling, "pooling")?;
            let mut info = EmbedderInfo::new(self.dimensions, self.max_tokens, pooling);
            info.meta = meta(self.meta)?;
            Ok(info)
        }
    }
}

/// Copies token ids.
///
/// # Safety
/// The pointer is NULL or valid.
pub unsafe fn tokens(from: &Tokens, what: &str) -> Result<Vec<u32>, String> {
    // SAFETY: the caller says so.
    Ok(unsafe { list(from.ptr, from.len, what)? }.to_vec())
}

unsafe fn texts(from: Strs, what: &str) -> Result<Vec<String>, String> {
    // SAFETY: the caller says so.
    unsafe {
        let texts = list(from.ptr, from.len, what)?.iter();
        texts.map(|&one| text(one, what)).collect()
    }
}

/// The recommended parameters. Each has a bit in `recommended`, in the order of the fields.
fn sampling(info: &c::ModelInfo) -> SamplingDefaults {
    let set = |bit: u32| info.recommended >> bit & 1 == 1;
    let mut sampling = SamplingDefaults::default();
    if set(0) {
        sampling = sampling.with_temperature(info.temperature);
    }
    if set(1) {
        sampling = sampling.with_top_p(info.top_p);
    }
    if set(2) {
        sampling = sampling.with_min_p(info.min_p);
    }
    if set(3) {
        sampling = sampling.with_top_k(info.top_k);
    }
    if set(4) {
        sampling = sampling.with_repetition_penalty(info.repetition_penalty);
    }
    sampling
}
