//! Tests of the levels of a model in a directory.

use std::{collections::HashMap, fs};

use candle_core::{Device, Shape, Tensor, safetensors};
use serde_json::json;
use tempfile::TempDir;
use tenon_plugin_api::Code;

use super::*;
use crate::{
    compute::Cpu,
    layers::{Linear, WeightMatrix},
    matrix::Matrix,
    weights::hf::HfDirectory,
};

/// Row length that fits every level.
const WIDTH: usize = 256;

/// A Llama of one layer. No number format represents its weights exactly.
fn directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4,
        "tie_word_embeddings": true,
    });
    let tokenizer = json!({
        "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    });
    for (name, content) in [("config.json", config), ("tokenizer.json", tokenizer)] {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let matrices = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ];
    let norms = ["input_layernorm", "post_attention_layernorm"];
    let mut tensors = HashMap::from([
        ("model.embed_tokens.weight".to_owned(), random((3, WIDTH))),
        ("model.norm.weight".to_owned(), random(WIDTH)),
    ]);
    tensors.extend(matrices.map(|part| (layer(part), random((WIDTH, WIDTH)))));
    tensors.extend(norms.map(|part| (layer(part), random(WIDTH))));
    safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn random(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let numbers = (0..shape.elem_count()).map(|n| ((n * n) as f32 * 0.37).sin());
    Tensor::from_vec(numbers.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn at_level(folder: &TempDir, level: &str) -> DecoderModel<Cpu> {
    let path = folder.path().to_owned();
    let origin = Origin {
        open: Box::new(move || Ok(Box::new(HfDirectory::open(&path, None)?))),
        kv_type: KvType::F16,
        threads: 1,
    };
    load(
        Cpu,
        Arc::new(origin),
        Some(level),
        LargePages::Later,
        &|_| Ok(()),
    )
    .unwrap()
}

/// Weights as floats: only equal weights give equal floats.
fn weights(model: &DecoderModel<Cpu>) -> Vec<Vec<f32>> {
    let parts = model.decoder.matrices().flat_map(Linear::parts);
    parts
        .map(|part| {
            let outputs: Vec<u32> = (0..part.outputs() as u32).collect();
            let mut rows = Matrix::zeros(0, 1);
            part.read_rows(&outputs, &mut rows).unwrap();
            rows.data().to_vec()
        })
        .collect()
}

#[test]
fn a_level_that_comes_back_is_the_same_to_the_bit() {
    let folder = directory();
    let first = at_level(&folder, "Q8_0");
    let low = first.at("Q4_K", &|_| Ok(())).unwrap();
    let back = low.at("Q8_0", &|_| Ok(())).unwrap();
    let levels = [&first, &low, &back].map(|model| model.info().quantization);
    assert_eq!(levels, ["Q8_0", "Q4_K", "Q8_0"]);
    assert!(weights(&low) != weights(&first));
    assert!(weights(&back) == weights(&at_level(&folder, "Q8_0")));
}

#[test]
fn a_change_that_is_stopped_leaves_the_model_as_it_was() {
    let folder = directory();
    let model = at_level(&folder, "Q8_0");
    let stop = |_| Err(Error::new(Code::CANCELLED, "enough"));
    assert_eq!(model.at("Q4_K", &stop).err().unwrap().code, Code::CANCELLED);
    assert!(weights(&model) == weights(&at_level(&folder, "Q8_0")));
}
