//! What a model will take of memory, from the header of its file.

use std::ffi::CString;

use tenon_plugin_api::{Error, Estimate, LoadArgs, Result, SessionArgs, levels};

use crate::{
    context::MICRO_BATCH_TOKENS, file_types, gguf, gguf::Gguf, options::Options, quantize,
};

/// Memory that the model takes when it is loaded and served so. All of it counts for the first device.
///
/// # Errors
/// Those of loading, as far as the header tells.
pub fn estimate(load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
    let options = Options::parse(&load.options)?;
    let shape = Shape::read(&Gguf::open(&load.path)?)
        .ok_or_else(|| Error::unsupported("estimates for this architecture"))?;
    let batch = u64::from(session.max_batch_tokens.clamp(1, MICRO_BATCH_TOKENS));
    Ok(vec![Estimate {
        device: load.devices.first().cloned().unwrap_or("cpu".into()),
        weight_bytes: weight_bytes(load)?,
        kv_bytes_per_token: options.kv_type.bytes(shape.kv_numbers),
        compute_bytes: batch * shape.activations * size_of::<f32>() as u64,
        ..Estimate::default()
    }])
}

fn weight_bytes(load: &LoadArgs) -> Result<u64> {
    let parts = gguf::read_parts(&load.path)?;
    let source = &parts[0].1.level;
    let offered = file_types::levels_from(source);
    let asked = load.quantize.as_deref();
    let level = asked
        .map(|asked| levels::choose(asked, &offered))
        .transpose()?;
    match level.filter(|level| level != source) {
        Some(level) => Ok(quantize::plan(&load.path, level)?.weight_bytes),
        None => Ok(parts.iter().map(|(_, header)| header.tensor_bytes).sum()),
    }
}

/// Sizes of a model that memory depends on.
struct Shape {
    /// Numbers that the KV cache holds for one token.
    kv_numbers: u64,
    /// Numbers that are in memory for one token while it is computed: its logits and the widest layer.
    activations: u64,
}

impl Shape {
    fn read(file: &Gguf) -> Option<Self> {
        let architecture = file.text(c"general.architecture")?;
        let key = |name: &str| CString::new(format!("{architecture}.{name}")).ok();
        let number = |name: &str| file.number(&key(name)?).map(u64::from);
        let layers = number("block_count")?;
        let width = number("embedding_length")?;
        // Some models have a number of heads for each layer.
        let sum_over_layers = |name: &str| match number(name) {
            Some(each) => Some(each * layers),
            None => Some(
                file.numbers(&key(name)?)?
                    .iter()
                    .copied()
                    .map(u64::from)
                    .sum(),
            ),
        };
        let heads = sum_over_layers("attention.head_count")?;
        let kv_heads = sum_over_layers("attention.head_count_kv").unwrap_or(heads);
        let average = (width * layers).checked_div(heads)?;
        let head = |part: &str| number(&format!("attention.{part}_length")).unwrap_or(average);
        let inner = number("feed_forward_length").unwrap_or(4 * width);
        let vocab = file.array_len(c"tokenizer.ggml.tokens")? as u64;
        Some(Self {
            kv_numbers: kv_heads * (head("key") + head("value")),
            activations: vocab + 2 * inner + 4 * width,
        })
    }
}
