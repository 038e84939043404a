//! Estimates a model's memory from the header of its file.

use tenon_plugin_api::{
    Error, Estimate, LoadArgs, Result, SessionArgs,
    gguf::{Gguf, Metadata, Value},
    levels,
};

use crate::{context::MICRO_BATCH_TOKENS, devices, file_types, gguf, options::Options, quantize};

/// Memory that loading the model with `load` and serving it with `session` takes. All of it counts for the first device.
///
/// # Errors
/// The errors of loading, as far as the header shows them.
pub fn estimate(load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
    let options = Options::of(load)?;
    // Reading the parts also refuses sizes that no model has.
    let weight_bytes = weight_bytes(load)?;
    let shape = Shape::read(Gguf::open(&load.path)?.metadata())
        .ok_or_else(|| Error::unsupported("estimates for this architecture"))?;
    let batch = u64::from(session.max_batch_tokens.clamp(1, MICRO_BATCH_TOKENS));
    let device = load.devices.first().cloned();
    let mut estimate = Estimate::new(device.unwrap_or_else(devices::first));
    estimate.weight_bytes = weight_bytes;
    estimate.kv_bytes_per_token = options.kv_type.bytes(shape.kv_numbers);
    estimate.sequence_bytes = shape.state_numbers.saturating_mul(size_of::<f32>() as u64);
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
    /// Numbers of a sequence's recurrent state, however long the sequence is. 0 if no layer is recurrent.
    state_numbers: u64,
    /// Numbers in memory for each token that is computed: its logits and the widest layer.
    activations: u64,
}

impl Shape {
    fn read(metadata: &Metadata) -> Option<Self> {
        let sizes = Sizes::read(metadata)?;
        let number = |name: &str| sizes.number(name);
        // Purely recurrent models have no heads.
        let heads = sizes
            .sum_over("attention.head_count", sizes.layers)
            .unwrap_or(0);
        let attending = sizes.attending_layers(heads);
        // The layers of an encoder store nothing.
        let stores = sizes.get("attention.causal") != Some(&Value::Bool(false));
        let kv_heads = sizes.sum_over("attention.head_count_kv", attending);
        let average = (sizes.width * sizes.layers).checked_div(heads).unwrap_or(0);
        let head = |part: &str| number(&format!("attention.{part}_length")).unwrap_or(average);
        let inner = number("feed_forward_length").unwrap_or(4 * sizes.width);
        let vocab = metadata.texts("tokenizer.ggml.tokens")?.len() as u64;
        Some(Self {
            kv_numbers: u64::from(stores)
                * kv_heads.unwrap_or(heads)
                * (head("key") + head("value")),
            state_numbers: sizes
                .recurrent_layers(attending)
                .saturating_mul(sizes.state_numbers()),
            activations: vocab + 2 * inner + 4 * sizes.width,
        })
    }
}

/// The numbers of an architecture's metadata.
struct Sizes<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    layers: u64,
    width: u64,
}

impl<'a> Sizes<'a> {
    fn read(metadata: &'a Metadata) -> Option<Self> {
        let mut sizes = Self {
            metadata,
            architecture: metadata.text("general.architecture")?,
            layers: 0,
            width: 0,
        };
        sizes.layers = sizes.number("block_count")?;
        sizes.width = sizes.number("embedding_length")?;
        Some(sizes)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.metadata.get(&format!("{}.{name}", self.architecture))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.whole()
    }

    /// The numbers of a list that has one for each layer.
    fn list(&self, name: &str) -> Option<&'a [f64]> {
        self.get(name)?.numbers()
    }

    /// A number that is the same in each of these layers, or the sum of a list.
    fn sum_over(&self, name: &str, layers: u64) -> Option<u64> {
        let same = self.number(name).map(|each| each * layers);
        let sum = |list: &[f64]| list.iter().map(|&number| number as u64).sum();
        same.or_else(|| self.list(name).map(sum))
    }

    /// How many layers have attention. `heads` is the number of heads of all layers.
    fn attending_layers(&self, heads: u64) -> u64 {
        let has_heads = |list: &[f64]| list.iter().filter(|&&heads| heads > 0.0).count() as u64;
        match (
            self.number("full_attention_interval"),
            self.list("attention.head_count_kv"),
        ) {
            _ if heads == 0 => 0,
            (Some(interval), _) => self.layers / interval.max(1),
            (None, Some(kv_heads)) => has_heads(kv_heads),
            (None, None) => self.layers,
        }
    }

    /// How many layers are recurrent: those without attention, and in Falcon-H1 all.
    fn recurrent_layers(&self, attending: u64) -> u64 {
        match self.architecture {
            "falcon-h1" => self.layers,
            _ => self.layers.saturating_sub(attending),
        }
    }

    /// Numbers of the state of a recurrent layer: that of short convolutions, of RWKV, or of Mamba and Gated DeltaNet.
    fn state_numbers(&self) -> u64 {
        let number = |name: &str| self.number(name).unwrap_or(0);
        if let Some(window) = self.number("shortconv.l_cache") {
            return self.width.saturating_mul(window.saturating_sub(1));
        }
        if let Some(head) = self.number("wkv.head_size") {
            let shifted = self.number("token_shift_count").unwrap_or(2);
            return self.width.saturating_mul(head.saturating_add(shifted));
        }
        let (inner, state) = (number("ssm.inner_size"), number("ssm.state_size"));
        let grouped = number("ssm.group_count").saturating_mul(state);
        let convolved = inner.saturating_add(grouped.saturating_mul(2));
        let kernel = number("ssm.conv_kernel").saturating_sub(1);
        let scanned = inner.saturating_mul(state);
        kernel.saturating_mul(convolved).saturating_add(scanned)
    }
}

#[cfg(test)]
mod tests;
