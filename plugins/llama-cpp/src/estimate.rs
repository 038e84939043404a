//! Estimates a model's memory from the header of its file.

use tenon_plugin_api::{
    Error, Estimate, LoadArgs, Result, SessionArgs,
    gguf::{Gguf, Metadata},
    levels,
};

use crate::{context::MICRO_BATCH_TOKENS, file_types, gguf, options::Options, quantize};

/// Memory that loading the model with `load` and serving it with `session` takes. All of it counts for the first device.
///
/// # Errors
/// The errors of loading, as far as the header shows them.
pub fn estimate(load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
    let options = Options::of(load)?;
    // This also refuses sizes that no model has.
    let weight_bytes = weight_bytes(load)?;
    let shape = Shape::read(Gguf::open(&load.path)?.metadata())
        .ok_or_else(|| Error::unsupported("estimates for this architecture"))?;
    let batch = u64::from(session.max_batch_tokens.clamp(1, MICRO_BATCH_TOKENS));
    let device = load.devices.first().cloned();
    let mut estimate = Estimate::new(device.unwrap_or("cpu".into()));
    estimate.weight_bytes = weight_bytes;
    estimate.kv_bytes_per_token = options.kv_type.bytes(shape.kv_numbers);
    estimate.compute_bytes = batch * shape.activations * size_of::<f32>() as u64;
    Ok(vec![estimate])
}

fn weight_bytes(load: &LoadArgs) -> Result<u64> {
    let parts = gguf::read_parts(&load.path)?;
    let source = &parts[0].1.level;
    let offered = file_types::levels_from(source);
    match levels::change(load.quantize.as_deref(), source, &offered)? {
        Some(level) => Ok(quantize::dry_run(&load.path, level)?.weight_bytes),
        None => Ok(parts.iter().map(|(_, header)| header.tensor_bytes).sum()),
    }
}

/// The sizes of a model that determine its memory.
struct Shape {
    /// Numbers that the KV cache holds for one token.
    kv_numbers: u64,
    /// Numbers in memory for each token that is computed: its logits and the widest layer.
    activations: u64,
}

impl Shape {
    fn read(metadata: &Metadata) -> Option<Self> {
        let architecture = metadata.text("general.architecture")?;
        let get = |name: &str| metadata.get(&format!("{architecture}.{name}"));
        let number = |name: &str| get(name)?.whole();
        let layers = number("block_count")?;
        let width = number("embedding_length")?;
        // In some models each layer has its own number of heads.
        let sum_over_layers = |name: &str| match number(name) {
            Some(each) => Some(each * layers),
            None => Some(
                get(name)?
                    .numbers()?
                    .iter()
                    .map(|&heads| heads as u64)
                    .sum(),
            ),
        };
        let heads = sum_over_layers("attention.head_count")?;
        let kv_heads = sum_over_layers("attention.head_count_kv").unwrap_or(heads);
        let average = (width * layers).checked_div(heads)?;
        let head = |part: &str| number(&format!("attention.{part}_length")).unwrap_or(average);
        let inner = number("feed_forward_length").unwrap_or(4 * width);
        let vocab = metadata.texts("tokenizer.ggml.tokens")?.len() as u64;
        Some(Self {
            kv_numbers: kv_heads * (head("key") + head("value")),
            activations: vocab + 2 * inner + 4 * width,
        })
    }
}
