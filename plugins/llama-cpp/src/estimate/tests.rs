//! Sizes of architectures, as llama.cpp allocates them.

use std::collections::HashMap;

use super::*;

/// The shape of a model of width 64 with four layers and these sizes. A list has one number for each layer.
fn shape(architecture: &str, sizes: &[(&str, &[f64])]) -> Shape {
    let value = |numbers: &[f64]| match numbers {
        [number] => Value::Integer(*number as i128),
        list => Value::Numbers(list.to_vec()),
    };
    let base: [(&str, &[f64]); 2] = [("block_count", &[4.0]), ("embedding_length", &[64.0])];
    let sizes = base.iter().chain(sizes);
    let sizes = sizes.map(|&(key, numbers)| (format!("{architecture}.{key}"), value(numbers)));
    let mut values: HashMap<_, _> = sizes.collect();
    let text = |text: &str| Value::Text(text.to_owned());
    values.insert("general.architecture".to_owned(), text(architecture));
    let tokens = Value::Texts(vec!["a".to_owned()]);
    values.insert("tokenizer.ggml.tokens".to_owned(), tokens);
    Shape::read(&values.into()).expect("a shape")
}

#[track_caller]
fn check(architecture: &str, sizes: &[(&str, &[f64])], kv_numbers: u64, state_numbers: u64) {
    let shape = shape(architecture, sizes);
    assert_eq!(
        (shape.kv_numbers, shape.state_numbers),
        (kv_numbers, state_numbers)
    );
}

const HEADS: (&str, &[f64]) = ("attention.head_count", &[4.0]);
const SSM: [(&str, &[f64]); 4] = [
    ("ssm.conv_kernel", &[4.0]),
    ("ssm.inner_size", &[128.0]),
    ("ssm.state_size", &[16.0]),
    ("ssm.group_count", &[1.0]),
];
/// Numbers of a layer's state with these sizes.
const SSM_STATE: u64 = 3 * (128 + 2 * 16) + 128 * 16;

#[test]
fn models_with_attention_have_kv_and_no_state() {
    let kv_heads = ("attention.head_count_kv", &[2.0][..]);
    check("llama", &[HEADS, kv_heads], 4 * 2 * (16 + 16), 0);
    check("llama", &[HEADS], 4 * 4 * (16 + 16), 0);
}

#[test]
fn recurrent_models_have_a_state_and_no_kv() {
    let no_heads = ("attention.head_count", &[0.0][..]);
    check(
        "mamba2",
        &[&SSM[..], &[no_heads]].concat(),
        0,
        4 * SSM_STATE,
    );
    check("mamba2", &SSM, 0, 4 * SSM_STATE);
    check("rwkv6", &[("wkv.head_size", &[32.0])], 0, 4 * 64 * (2 + 32));
}

#[test]
fn hybrids_have_a_kv_or_a_state_in_each_layer() {
    let some = ("attention.head_count_kv", &[0.0, 2.0, 0.0, 2.0][..]);
    let kv_numbers = 2 * 2 * (16 + 16);
    check(
        "granitehybrid",
        &[&SSM[..], &[HEADS, some]].concat(),
        kv_numbers,
        2 * SSM_STATE,
    );
    let window = ("shortconv.l_cache", &[3.0][..]);
    check("lfm2", &[HEADS, some, window], kv_numbers, 2 * 64 * 2);
    let two = ("attention.head_count_kv", &[2.0][..]);
    let interval = ("full_attention_interval", &[4.0][..]);
    let sizes = [&SSM[..], &[HEADS, two, interval]].concat();
    check("qwen3next", &sizes, 2 * (16 + 16), 3 * SSM_STATE);
    let sizes = [&SSM[..], &[HEADS, two]].concat();
    check("falcon-h1", &sizes, 4 * 2 * (16 + 16), 4 * SSM_STATE);
}
