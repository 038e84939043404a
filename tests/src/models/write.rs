//! Writes models as files.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{
    DType, Device, Result, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file::Value},
    safetensors,
};
use serde_json::json;
use tenon_plugin_api::Pooling;

use super::{
    TestModel,
    family::{Role, Weight},
    random::Random,
    tensors::write_gguf,
};

/// Writes a GGUF file.
pub fn gguf(model: &TestModel, path: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for (weight, tensor) in weights(model)? {
        if let (Role::Embedding, Some(head)) = (weight.role, model.rank) {
            let rows = Tensor::new(&[head.yes, head.no], &Device::Cpu)?;
            let head = QTensor::quantize(&tensor.index_select(&rows, 0)?, GgmlDType::F32)?;
            tensors.push(("cls.output.weight".to_owned(), head));
        }
        let tensor = as_gguf(model, &weight, tensor)?;
        let dtype = match (model.dtype, weight.role) {
            (_, Role::Norm | Role::FaintNorm | Role::Bias) | (DType::F32, _) => GgmlDType::F32,
            (DType::BF16, _) => GgmlDType::BF16,
            (dtype, _) => candle_core::bail!("no GGUF files of {dtype:?}"),
        };
        tensors.push((
            weight.name(&weight.gguf),
            QTensor::quantize(&tensor, dtype)?,
        ));
    }
    write_gguf(path, &metadata(model), &tensors)
}

/// Writes a Hugging Face directory.
pub fn dir(model: &TestModel, folder: &Path) -> Result<()> {
    let mut tensors = HashMap::new();
    for (weight, tensor) in weights(model)? {
        tensors.insert(weight.name(&weight.hf), tensor.to_dtype(model.dtype)?);
    }
    let mut config = model.family.config(&model.shape, model.vocabulary.size());
    config["torch_dtype"] = match model.dtype {
        DType::BF16 => "bfloat16".into(),
        _ => "float32".into(),
    };
    config["bos_token_id"] = model.vocabulary.bos().into();
    config["eos_token_id"] = model.vocabulary.eos().into();
    let files = [
        ("config.json", config),
        ("tokenizer.json", model.vocabulary.tokenizer_json()),
        ("tokenizer_config.json", model.vocabulary.tokenizer_config()),
    ];
    fs::create_dir_all(folder)?;
    for (name, content) in files {
        fs::write(folder.join(name), content.to_string())?;
    }
    if let Some(pooling) = model.pooling {
        let config = json!({pooling_flag(pooling): true});
        fs::create_dir_all(folder.join("1_Pooling"))?;
        fs::write(folder.join("1_Pooling/config.json"), config.to_string())?;
    }
    safetensors::save(&tensors, folder.join("model.safetensors"))
}

/// The key of sentence-transformers for this pooling.
fn pooling_flag(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Mean => "pooling_mode_mean_tokens",
        Pooling::Cls => "pooling_mode_cls_token",
        Pooling::Last => "pooling_mode_lasttoken",
    }
}

/// llama.cpp's number for this pooling.
fn pooling_number(pooling: Pooling) -> u32 {
    match pooling {
        Pooling::Mean => 1,
        Pooling::Cls => 2,
        Pooling::Last => 3,
    }
}

impl Weight {
    fn name(&self, stem: &str) -> String {
        let part = if self.role == Role::Bias {
            "bias"
        } else {
            "weight"
        };
        format!("{stem}.{part}")
    }
}

/// The weights in f32, in the form that directories have.
fn weights(model: &TestModel) -> Result<Vec<(Weight, Tensor)>> {
    let mut random = Random::new(model.seed);
    let specs = model.family.weights(&model.shape, model.vocabulary.size());
    let tensor = |weight: Weight| {
        let offset = model.family.norm_offset();
        let (mean, spread) = match weight.role {
            Role::Norm => (1.0 - offset, 0.1),
            Role::FaintNorm => (0.125 - offset, 0.0125),
            Role::Bias => (0.0, 0.5),
            Role::Embedding => (0.0, 0.5),
            // The spread depends on the length of the input, so that activations neither grow nor vanish.
            Role::Matrix | Role::Rotated { .. } => (0.0, (weight.dims[1] as f32).sqrt().recip()),
        };
        let count = weight.dims.iter().product();
        let numbers: Vec<f32> = (0..count)
            .map(|_| mean + spread * random.number())
            .collect();
        // Rounded to the type that is written, so that both files hold the same weights.
        let tensor = Tensor::from_vec(numbers, weight.dims.clone(), &Device::Cpu)?;
        Ok((weight, tensor.to_dtype(model.dtype)?.to_dtype(DType::F32)?))
    };
    specs.into_iter().map(tensor).collect()
}

fn as_gguf(model: &TestModel, weight: &Weight, tensor: Tensor) -> Result<Tensor> {
    match weight.role {
        Role::Rotated { heads } if model.family.interleaves_heads() => interleave(&tensor, heads),
        Role::Norm | Role::FaintNorm => tensor + f64::from(model.family.norm_offset()),
        _ => Ok(tensor),
    }
}

/// Changes the order of a head's rows. Directories have the first halves of all pairs before the second halves; llama.cpp
/// has pairs together.
fn interleave(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, columns) = tensor.dims2()?;
    let pairs = tensor.reshape((heads, 2, rows / heads / 2, columns))?;
    pairs.transpose(1, 2)?.reshape((rows, columns))
}

/// The reverse of [`interleave`].
pub fn uninterleave(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, columns) = tensor.dims2()?;
    let pairs = tensor.reshape((heads, rows / heads / 2, 2, columns))?;
    pairs.transpose(1, 2)?.reshape((rows, columns))
}

fn metadata(model: &TestModel) -> Vec<(String, Value)> {
    let architecture = model.family.architecture();
    let text = |text: &str| Value::String(text.to_owned());
    let mut pairs = vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.name".to_owned(), text("test")),
    ];
    let sizes = model.family.sizes(&model.shape).into_iter();
    let sizes = sizes.map(|(key, size)| (key, Value::U32(size as u32)));
    let factors = model.family.factors().into_iter();
    let factors = factors.map(|(key, factor)| (key, Value::F32(factor)));
    pairs.extend(
        sizes
            .chain(factors)
            .map(|(key, value)| (format!("{architecture}.{key}"), value)),
    );
    if let Some(pooling) = model.pooling {
        let number = Value::U32(pooling_number(pooling));
        pairs.push((format!("{architecture}.pooling_type"), number));
    }
    if let Some(head) = model.rank {
        let labels = Value::Array(["yes", "no"].map(text).into());
        pairs.push((format!("{architecture}.pooling_type"), Value::U32(4)));
        pairs.push((format!("{architecture}.classifier.output_labels"), labels));
        pairs.push((
            "tokenizer.chat_template.rerank".to_owned(),
            text(head.template),
        ));
    }
    pairs.extend(model.vocabulary.gguf(model.pre));
    pairs
}
