//! The model options of this backend: the JSON object in `LoadArgs::options`.

use llama_cpp_sys_2::{
    GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_Q8_0, LLAMA_FLASH_ATTN_TYPE_AUTO,
    LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED, ggml_type,
    llama_flash_attn_type,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Error, LoadArgs, Result};

/// Options of a model. Every key may be left out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many layers are computed on GPUs. Left out: all.
    pub gpu_layers: Option<u32>,
    /// Map the file into memory instead of reading it.
    pub mmap: bool,
    /// Flash attention. `auto`: on if the device is good at it.
    pub flash_attention: FlashAttention,
    /// Number format of the KV cache. `q8_0` takes half the memory of `f16`, and needs flash attention.
    pub kv_type: KvType,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashAttention {
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    F32,
    #[default]
    F16,
    Q8_0,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gpu_layers: None,
            mmap: true,
            flash_attention: FlashAttention::default(),
            kv_type: KvType::default(),
        }
    }
}

impl Options {
    /// # Errors
    /// `INVALID` for unknown keys and values; the message names them and lists what is allowed.
    pub fn of(args: &LoadArgs) -> Result<Self> {
        let options: Self = args.read_options()?;
        if options.kv_type == KvType::Q8_0 && options.flash_attention == FlashAttention::Off {
            return Err(Error::invalid(
                "the model's options: kv_type \"q8_0\" needs flash_attention \"auto\" or \"on\"",
            ));
        }
        Ok(options)
    }
}

/// The options of the plugin as a whole. Every key may be left out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginOptions {
    /// Most bytes that quantized files may take in the cache directory. The least recently used files are removed first. The
    /// file that was just written stays.
    pub max_cache_bytes: u64,
}

impl Default for PluginOptions {
    fn default() -> Self {
        Self {
            max_cache_bytes: 64 << 30,
        }
    }
}

impl FlashAttention {
    pub fn llama(self) -> llama_flash_attn_type {
        match self {
            Self::Auto => LLAMA_FLASH_ATTN_TYPE_AUTO,
            Self::On => LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Self::Off => LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
    }
}

impl KvType {
    pub fn ggml(self) -> ggml_type {
        match self {
            Self::F32 => GGML_TYPE_F32,
            Self::F16 => GGML_TYPE_F16,
            Self::Q8_0 => GGML_TYPE_Q8_0,
        }
    }

    /// Bytes of `count` numbers.
    pub fn bytes(self, count: u64) -> u64 {
        match self {
            Self::F32 => 4 * count,
            Self::F16 => 2 * count,
            // Blocks of 32 numbers share a scale of two bytes.
            Self::Q8_0 => count * 34 / 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Options> {
        Options::of(&LoadArgs {
            options: json.into(),
            ..LoadArgs::default()
        })
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(parse("{}"), Ok(Options::default()));
        let options = parse(r#"{"mmap": false, "kv_type": "q8_0"}"#).unwrap();
        assert!(!options.mmap);
        assert_eq!(options.kv_type, KvType::Q8_0);
        assert_eq!(options.flash_attention, FlashAttention::Auto);
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_allowed() {
        let message = |json| parse(json).unwrap_err().message;
        let unknown = message(r#"{"n_gpu_layers": 3}"#);
        assert!(
            unknown.contains("`n_gpu_layers`") && unknown.contains("`gpu_layers`"),
            "{unknown}"
        );
        let value = message(r#"{"kv_type": "q4_0"}"#);
        assert!(
            value.contains("`q4_0`") && value.contains("`q8_0`"),
            "{value}"
        );
        assert!(
            message(r#"{"kv_type": "q8_0", "flash_attention": "off"}"#).contains("flash_attention")
        );
    }
}
