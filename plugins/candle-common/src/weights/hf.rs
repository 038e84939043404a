//! Reads tensors of a Hugging Face directory: safetensors files, mapped into memory.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    path::{Component, Path, PathBuf},
};

use candle_core::{
    DType, Device,
    quantized::{GgmlDType, QStorage, QTensor},
    safetensors::MmapedSafetensors,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenon_plugin_api::{
    Code, Error, Result,
    files::read_json,
    hf_tokenizer::{self, Prompting},
    levels,
};

use super::{TensorSource, candle_error, finite, missing, quantize, type_name};
use crate::{
    config::{self, Config},
    model::Files,
};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const PREFIX: &str = "model.";
/// Most files of one model.
const MAX_FILES: usize = 4096;

/// Number formats of weights that are not quantized.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    F32,
    F16,
    Bf16,
}

/// A directory, opened.
pub struct HfDirectory {
    path: PathBuf,
    weights: Safetensors,
    level: &'static str,
}

/// The weights of a directory.
pub struct Safetensors {
    tensors: MmapedSafetensors,
    names: HashSet<String>,
    /// The type that matrices are converted to. None: each keeps the type in its file.
    kind: Option<GgmlDType>,
    /// Prefix of all names except the output's. It is empty if the model was saved without its output layer.
    prefix: &'static str,
    /// Whether norms also follow attention and MLP. Then `post_attention_layernorm` names the norm after attention and not
    /// the one before the MLP.
    sandwiched: bool,
}

impl FloatType {
    fn candle(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
        }
    }
}

impl HfDirectory {
    /// Opens the files of a directory. Matrices are converted to the type `kind`. None: they keep the type in their files.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn open(path: &Path, kind: Option<FloatType>) -> Result<Self> {
        let weights = Safetensors::open(path, kind)?;
        Ok(Self {
            path: path.to_owned(),
            level: type_name(weights.main_type()?),
            weights,
        })
    }
}

impl Files for HfDirectory {
    fn config(&self) -> Result<Config> {
        config::hf::read(&self.path)
    }

    fn prompting(&self) -> Result<Prompting> {
        hf_tokenizer::from_dir(&self.path)
    }

    fn source(&self) -> &dyn TensorSource {
        &self.weights
    }

    fn level(&self) -> &str {
        self.level
    }

    fn parameters(&self) -> u64 {
        let tensors = self.weights.tensors.tensors();
        let counts = tensors
            .iter()
            .map(|(_, view)| view.shape().iter().product::<usize>());
        counts.sum::<usize>() as u64
    }

    fn bytes(&self) -> u64 {
        let bytes = levels::find(self.level).map_or(4, |level| level.tensor.block_bytes);
        self.parameters() * u64::from(bytes)
    }
}

impl Safetensors {
    /// Maps the files of a directory.
    ///
    /// # Errors
    /// `IO`; `INVALID` for damaged or missing files.
    pub fn open(directory: &Path, kind: Option<FloatType>) -> Result<Self> {
        let files = files(directory)?;
        // SAFETY: like every program that maps models, this one relies on nobody changing the files while they are read.
        let tensors = unsafe { MmapedSafetensors::multi(&files) }.map_err(|error| {
            candle_error(&format!("{} cannot be read", directory.display()), &error)
        })?;
        let names: HashSet<_> = tensors
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let prefix = match names.iter().any(|name| name.starts_with(PREFIX)) {
            true => PREFIX,
            false => "",
        };
        let sandwich = format!("{prefix}layers.0.pre_feedforward_layernorm.weight");
        Ok(Self {
            prefix,
            sandwiched: names.contains(&sandwich),
            tensors,
            names,
            kind: kind.map(FloatType::candle),
        })
    }

    /// Type of the matrices: `kind`, or that of the embedding if they are not converted.
    fn main_type(&self) -> Result<GgmlDType> {
        if let Some(kind) = self.kind {
            return Ok(kind);
        }
        let name = self
            .find("token_embd", "weight")
            .ok_or_else(|| missing("token_embd"))?;
        let view = self.tensors.get(&name);
        view.and_then(|view| float_type(view.dtype().try_into()?))
            .map_err(|error| candle_error(&name, &error))
    }

    /// The tensor's name in the files, if they have it.
    fn find(&self, name: &str, part: &str) -> Option<String> {
        let stems = stems(name, self.prefix, self.sandwiched);
        let names = stems.iter().map(|stem| format!("{stem}.{part}"));
        names.into_iter().find(|name| self.names.contains(name))
    }

    fn floats(&self, name: &str, part: &str) -> Result<Option<Vec<f32>>> {
        let Some(name) = self.find(name, part) else {
            return Ok(None);
        };
        let tensor = self.load(&name)?;
        tensor
            .dequantize(&Device::Cpu)
            .and_then(|tensor| tensor.flatten_all()?.to_vec1())
            .map(Some)
            .map_err(|error| candle_error(&name, &error))
    }

    fn load(&self, name: &str) -> Result<QTensor> {
        let error = |error| candle_error(name, &error);
        let view = self.tensors.get(name).map_err(error)?;
        let kind = DType::try_from(view.dtype()).and_then(float_type);
        let kind = kind.map_err(error)?;
        let bytes = view.data();
        if bytes.is_empty() {
            return Err(Error::invalid(format!(
                "the tensor {name} has a dimension of 0: download the model again"
            )));
        }
        finite::check(name, kind, bytes)?;
        // candle needs them aligned, and in most files they are.
        let bytes = match bytes.as_ptr().align_offset(kind.type_size()) {
            0 => Cow::Borrowed(bytes),
            _ => Cow::Owned(bytes.to_vec()),
        };
        QStorage::from_data(bytes, &Device::Cpu, kind)
            .and_then(|storage| QTensor::new(storage, view.shape()))
            .map_err(error)
    }
}

impl TensorSource for Safetensors {
    fn has(&self, name: &str) -> bool {
        self.find(name, "weight").is_some()
    }

    fn matrix(&self, name: &str) -> Result<Option<QTensor>> {
        let Some(name) = self.find(name, "weight") else {
            return Ok(None);
        };
        let matrix = self.load(&name)?;
        match self.kind {
            Some(kind) => quantize::convert(matrix, kind).map(Some),
            None => Ok(Some(matrix)),
        }
    }

    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.floats(name, "weight")
    }

    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.floats(name, "bias")
    }
}

fn float_type(kind: DType) -> candle_core::Result<GgmlDType> {
    match kind {
        DType::F32 => Ok(GgmlDType::F32),
        DType::F16 => Ok(GgmlDType::F16),
        DType::BF16 => Ok(GgmlDType::BF16),
        other => {
            candle_core::bail!("weights of type {other:?} are not known: F32, F16 and BF16 are")
        }
    }
}

/// The files of a directory that hold its weights.
///
/// # Errors
/// `IO`; `INVALID` if there are no such files, or if the index makes no sense.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let index = directory.join(INDEX);
    if !index.exists() {
        let single = directory.join(SINGLE);
        return match single.exists() {
            true => check_file(&single).map(|()| vec![single]),
            false => Err(Error::new(
                Code::INVALID,
                format!(
                    "{} has neither {SINGLE} nor {INDEX}: give the directory of a model in safetensors format",
                    directory.display()
                ),
            )),
        };
    }
    let parsed: Value = read_json(&index)?.unwrap_or_default();
    let map = parsed["weight_map"].as_object();
    let names: Option<BTreeSet<_>> = map.and_then(|map| map.values().map(Value::as_str).collect());
    let names = names.filter(|names| !names.is_empty() && names.len() <= MAX_FILES);
    let names = names.filter(|names| names.iter().all(|name| is_beside(name)));
    let names = names.ok_or_else(|| {
        Error::invalid(format!(
            "{} has no usable \"weight_map\" of tensors to files beside it: download it again",
            index.display()
        ))
    })?;
    let paths = names.into_iter().map(|name| directory.join(name));
    paths.map(|path| check_file(&path).map(|()| path)).collect()
}

/// Whether `name` names a file in the same directory.
fn is_beside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

fn check_file(path: &Path) -> Result<()> {
    let error = match path.metadata() {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => "it is no file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::new(
        Code::IO,
        format!(
            "{} cannot be read ({error}): get the model's files again",
            path.display()
        ),
    ))
}

/// The names that the files may have for a tensor, without `.weight`.
fn stems(name: &str, prefix: &str, sandwiched: bool) -> Vec<String> {
    let Some((layer, part)) = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return match name {
            "token_embd" => vec![format!("{prefix}embed_tokens")],
            "output_norm" => vec![format!("{prefix}norm")],
            "output" => vec!["lm_head".to_owned()],
            _ => Vec::new(),
        };
    };
    let parts: &[&str] = match part {
        "attn_norm" => &["input_layernorm"],
        "attn_q" => &["self_attn.q_proj"],
        "attn_k" => &["self_attn.k_proj"],
        "attn_v" => &["self_attn.v_proj"],
        "attn_qkv" => &["self_attn.qkv_proj"],
        "attn_output" => &["self_attn.o_proj"],
        "attn_q_norm" => &["self_attn.q_norm"],
        "attn_k_norm" => &["self_attn.k_norm"],
        "post_attention_norm" if sandwiched => &["post_attention_layernorm"],
        "ffn_norm" if sandwiched => &["pre_feedforward_layernorm"],
        "ffn_norm" => &["post_attention_layernorm"],
        "post_ffw_norm" => &["post_feedforward_layernorm"],
        "ffn_gate" => &["mlp.gate_proj"],
        "ffn_up" => &["mlp.up_proj", "mlp.gate_up_proj"],
        "ffn_down" => &["mlp.down_proj"],
        _ => &[],
    };
    let full = |part: &&str| format!("{prefix}layers.{layer}.{part}");
    parts.iter().map(full).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use candle_core::Tensor;

    use super::*;

    fn save(path: PathBuf, names: &[&str]) {
        let tensor = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap();
        let tensor = tensor
            .reshape((2, 4))
            .unwrap()
            .to_dtype(DType::BF16)
            .unwrap();
        let tensors: HashMap<_, _> = names.iter().map(|name| (*name, tensor.clone())).collect();
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    #[test]
    fn one_file_or_many_by_their_index() {
        let directory = tempfile::tempdir().unwrap();
        let empty = files(directory.path()).unwrap_err().message;
        assert!(empty.contains("model.safetensors"), "{empty}");

        save(directory.path().join(SINGLE), &["lm_head.weight"]);
        let single = Safetensors::open(directory.path(), None).unwrap();
        assert_eq!(
            single.matrix("output").unwrap().unwrap().dtype(),
            GgmlDType::BF16
        );
        assert!(single.matrix("token_embd").unwrap().is_none());

        save(
            directory.path().join("a.safetensors"),
            &["model.embed_tokens.weight"],
        );
        save(
            directory.path().join("b.safetensors"),
            &["model.layers.3.mlp.gate_up_proj.weight"],
        );
        let map = r#"{"weight_map": {"model.embed_tokens.weight": "a.safetensors", "x": "b.safetensors", "y": "b.safetensors"}}"#;
        fs::write(directory.path().join(INDEX), map).unwrap();
        let many = Safetensors::open(directory.path(), Some(FloatType::F32)).unwrap();
        assert_eq!(
            many.matrix("token_embd").unwrap().unwrap().dtype(),
            GgmlDType::F32
        );
        assert_eq!(many.vector("blk.3.ffn_up").unwrap().unwrap()[7], 7.0);
        assert!(many.matrix("output").unwrap().is_none());

        fs::write(directory.path().join(INDEX), "{}").unwrap();
        assert!(
            files(directory.path())
                .unwrap_err()
                .message
                .contains("weight_map")
        );
    }

    #[test]
    fn models_saved_without_their_output_have_shorter_names() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["embed_tokens.weight", "layers.0.mlp.up_proj.weight"];
        save(directory.path().join(SINGLE), &names);
        let weights = Safetensors::open(directory.path(), None).unwrap();
        assert!(weights.has("token_embd") && weights.has("blk.0.ffn_up"));
        assert!(!weights.has("output"));
    }

    #[test]
    fn a_norm_behind_attention_is_what_its_neighbours_make_it() {
        assert_eq!(
            stems("blk.0.ffn_norm", PREFIX, false),
            ["model.layers.0.post_attention_layernorm"]
        );
        assert_eq!(
            stems("blk.0.ffn_norm", "", true),
            ["layers.0.pre_feedforward_layernorm"]
        );
        assert_eq!(
            stems("blk.0.post_attention_norm", PREFIX, true),
            ["model.layers.0.post_attention_layernorm"]
        );
        assert!(stems("blk.0.post_attention_norm", PREFIX, false).is_empty());
    }
}
