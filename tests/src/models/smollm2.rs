//! SmolLM2 without quantization: the weights of its Q4_1 file in f32, in both formats.

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::{DefaultHasher, Hasher},
    io::BufWriter,
    path::{Path, PathBuf},
    process,
};

use candle_core::{
    Device, Result, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file, gguf_file::Value},
    safetensors,
};
use serde_json::{Value as Json, json};

use super::write::uninterleave;
use crate::smollm2;

/// Version of the files that this module writes. A new version writes new files.
const VERSION: u64 = 1;

/// The dequantized GGUF file, made once and kept.
pub fn smollm2_f32_gguf() -> PathBuf {
    cached("f32.gguf", |source, path| source.write_gguf(path))
}

/// The dequantized Hugging Face directory, made once and kept.
pub fn smollm2_f32_dir() -> PathBuf {
    cached("f32", |source, folder| source.write_dir(folder))
}

/// Writes a file or directory beside the model, unless it exists. It appears as a whole, because tests in several processes
/// may write it at once.
fn cached(suffix: &str, write: impl Fn(&mut Source, &Path) -> Result<()>) -> PathBuf {
    let source = smollm2();
    let bytes = fs::read(&source).expect("SmolLM2");
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(VERSION);
    hasher.write(&bytes);
    let key = hasher.finish();
    let target = source.with_extension(format!("{key:016x}.{suffix}"));
    if !target.exists() {
        let partial = source.with_extension(format!("{}.{suffix}.partial", process::id()));
        let mut source = Source::open(&source).expect("SmolLM2");
        write(&mut source, &partial).expect("the dequantized SmolLM2");
        if fs::rename(&partial, &target).is_err() {
            // Another process was faster: a directory cannot be renamed over one that is not empty.
            fs::remove_dir_all(&partial).expect("a directory of this process");
        }
    }
    target
}

struct Source {
    file: File,
    content: gguf_file::Content,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let content = gguf_file::Content::read(&mut file)?;
        Ok(Self { file, content })
    }

    /// All weights, in f32.
    fn tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        let mut names: Vec<String> = self.content.tensor_infos.keys().cloned().collect();
        names.sort();
        let mut tensor = |name: String| {
            let tensor = self.content.tensor(&mut self.file, &name, &Device::Cpu)?;
            Ok((name, tensor.dequantize(&Device::Cpu)?))
        };
        names.into_iter().map(&mut tensor).collect()
    }

    fn write_gguf(&mut self, path: &Path) -> Result<()> {
        let tensors = self.tensors()?;
        let tensors: Vec<(String, QTensor)> = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, QTensor::quantize(&tensor, GgmlDType::F32)?)))
            .collect::<Result<_>>()?;
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let mut metadata = self.content.metadata.clone();
        metadata.insert("general.file_type".into(), Value::U32(0));
        let metadata: Vec<_> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        gguf_file::write(
            &mut BufWriter::new(File::create(path)?),
            &metadata,
            &tensors,
        )
    }

    fn write_dir(&mut self, folder: &Path) -> Result<()> {
        let (heads, kv_heads) = (
            self.size("attention.head_count")?,
            self.size("attention.head_count_kv")?,
        );
        let mut tensors = HashMap::new();
        for (name, tensor) in self.tensors()? {
            let name = hf_name(&name);
            let tensor = match name.rsplit('.').nth(1) {
                Some("q_proj") => uninterleave(&tensor, heads)?,
                Some("k_proj") => uninterleave(&tensor, kv_heads)?,
                _ => tensor,
            };
            tensors.insert(name, tensor);
        }
        fs::create_dir_all(folder)?;
        let files = [
            ("config.json", self.config()?),
            ("tokenizer.json", self.tokenizer_json()?),
            ("tokenizer_config.json", self.tokenizer_config()?),
        ];
        for (name, content) in files {
            fs::write(folder.join(name), content.to_string())?;
        }
        safetensors::save(&tensors, folder.join("model.safetensors"))
    }

    fn config(&self) -> Result<Json> {
        Ok(json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.size("embedding_length")?,
            "num_hidden_layers": self.size("block_count")?,
            "num_attention_heads": self.size("attention.head_count")?,
            "num_key_value_heads": self.size("attention.head_count_kv")?,
            "intermediate_size": self.size("feed_forward_length")?,
            "max_position_embeddings": self.size("context_length")?,
            "vocab_size": self.texts("tokenizer.ggml.tokens")?.len(),
            "rms_norm_eps": self.value("llama.attention.layer_norm_rms_epsilon")?.to_f32()?,
            "rope_theta": self.value("llama.rope.freq_base")?.to_f32()?,
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        }))
    }

    /// The tokenizer as in the makers' own file: digits one by one, and words cut as by GPT-2.
    fn tokenizer_json(&self) -> Result<Json> {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let tokens = self.texts("tokenizer.ggml.tokens")?;
        let vocab: serde_json::Map<String, Json> = tokens
            .iter()
            .zip(0..)
            .map(|(text, id)| (text.clone(), json!(id)))
            .collect();
        let kinds = self.value("tokenizer.ggml.token_type")?.to_vec()?;
        let mut added = Vec::new();
        for (id, (text, kind)) in tokens.iter().zip(kinds).enumerate() {
            if let special @ 3..=4 = kind.to_i32()? {
                added.push(
                    json!({"id": id, "content": text, "special": special == 3, "normalized": false,
                                  "single_word": false, "lstrip": false, "rstrip": false}),
                );
            }
        }
        Ok(json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes]},
            "post_processor": null,
            "decoder": bytes,
            "model": {"type": "BPE", "vocab": vocab, "merges": self.texts("tokenizer.ggml.merges")?},
        }))
    }

    fn tokenizer_config(&self) -> Result<Json> {
        let tokens = self.texts("tokenizer.ggml.tokens")?;
        let token = |name: &str| {
            let id = self
                .value(&format!("tokenizer.ggml.{name}_token_id"))?
                .to_u32()?;
            Ok::<_, candle_core::Error>(&tokens[id as usize])
        };
        Ok(json!({
            "bos_token": token("bos")?,
            "eos_token": token("eos")?,
            "chat_template": self.value("tokenizer.chat_template")?.to_string()?,
        }))
    }

    fn value(&self, key: &str) -> Result<&Value> {
        let value = self.content.metadata.get(key);
        value.ok_or_else(|| candle_core::Error::msg(format!("no {key}")))
    }

    fn size(&self, key: &str) -> Result<usize> {
        Ok(self.value(&format!("llama.{key}"))?.to_u32()? as usize)
    }

    fn texts(&self, key: &str) -> Result<Vec<String>> {
        let texts = self.value(key)?.to_vec()?.iter();
        texts.map(|text| text.to_string().cloned()).collect()
    }
}

fn hf_name(gguf: &str) -> String {
    const PARTS: [(&str, &str); 12] = [
        ("token_embd", "model.embed_tokens"),
        ("output_norm", "model.norm"),
        ("blk", "model.layers"),
        ("attn_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ];
    let parts = gguf.split('.').map(|part| {
        let known = PARTS.iter().find(|(gguf, _)| *gguf == part);
        known.map_or(part, |(_, hf)| hf)
    });
    parts.collect::<Vec<_>>().join(".")
}
