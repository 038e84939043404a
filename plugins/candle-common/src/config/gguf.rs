//! Reads the configuration from the metadata of a GGUF file.

use tenon_plugin_api::{
    Error, Pooling, Result,
    gguf::{Metadata, Value},
};

use super::{
    Config, Family, RopeConfig, RopeLayout, RopeScaling, check_context, check_layers, family,
};
use crate::kernels::elementwise::Activation;

/// Frequency factors that a file stores as tensors.
#[derive(Default)]
pub struct RopeFactors {
    /// For contexts of every length (Llama 3).
    pub all: Option<Vec<f32>>,
    /// For short and long contexts (Phi-3).
    pub short: Option<Vec<f32>>,
    pub long: Option<Vec<f32>>,
}

/// The configuration that a file's metadata describes.
///
/// # Errors
/// `INVALID` for an unknown architecture, and for values that are missing or make no sense; the message names them.
pub fn parse(metadata: &Metadata, factors: RopeFactors) -> Result<Config> {
    let name = metadata.text("general.architecture").unwrap_or_default();
    let family = family(name, |family| family.gguf)?;
    ConfigKeys { metadata, name }.config(family, factors)
}

struct ConfigKeys<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl ConfigKeys<'_> {
    fn config(&self, family: &Family, factors: RopeFactors) -> Result<Config> {
        if self
            .count("expert_count")
            .is_some_and(|experts| experts > 0)
        {
            return Err(Error::invalid(format!(
                "the model is a mixture of experts, which this backend does not have for {:?}",
                self.name
            )));
        }
        let layers = check_layers(self.required("block_count")?)?;
        let hidden = self.required("embedding_length")?;
        let heads = self.required("attention.head_count")?;
        let head = self
            .count("attention.key_length")
            .unwrap_or(hidden / heads.max(1));
        let context = self.required("context_length")?;
        let rope = self.rope(head, context as f64, factors);
        let pattern = self.count("attention.sliding_window_pattern");
        Config {
            architecture: self.name.to_owned(),
            layers,
            hidden,
            heads,
            kv_heads: self.kv_heads(heads)?,
            head,
            context_length: check_context(context)?,
            activation: if family.gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            norm_epsilon: self
                .number("attention.layer_norm_rms_epsilon")
                .ok_or_else(|| self.missing("attention.layer_norm_rms_epsilon"))?
                as f32,
            norm_offset: 0.0,
            embedding_scale: if family.gemma {
                (hidden as f32).sqrt()
            } else {
                1.0
            },
            attention_scale: attention_scale(family, layers, hidden, heads, head),
            attention_soft_cap: self.soft_cap("attn_logit_softcapping"),
            logits_soft_cap: self.soft_cap("final_logit_softcapping"),
            rope_layout: if family.paired {
                RopeLayout::Pairs
            } else {
                RopeLayout::Halves
            },
            local_rope: family.two_ropes.then(|| RopeConfig {
                base: self.number("rope.freq_base_swa").unwrap_or(1e4),
                scaling: RopeScaling::None,
                ..rope.clone()
            }),
            rope,
            window: self
                .count("attention.sliding_window")
                .filter(|&window| window > 0)
                .map(check_context)
                .transpose()?,
            local: family.local(layers, pattern.unwrap_or(family.pattern)),
            tied: false,
            pooling: Pooling::from_gguf(self.count("pooling_type").map(|number| number as u32)),
        }
        .checked()
    }

    fn kv_heads(&self, heads: usize) -> Result<usize> {
        match self.metadata.get(&self.key("attention.head_count_kv")) {
            Some(_) => self.required("attention.head_count_kv"),
            None => Ok(heads),
        }
    }

    fn rope(&self, head: usize, context: f64, factors: RopeFactors) -> RopeConfig {
        RopeConfig {
            dimensions: self.count("rope.dimension_count").unwrap_or(head),
            base: self.number("rope.freq_base").unwrap_or(1e4),
            scaling: self.scaling(context, factors),
        }
    }

    fn scaling(&self, context: f64, factors: RopeFactors) -> RopeScaling {
        let original_context = self
            .number("rope.scaling.original_context_length")
            .unwrap_or(context);
        let attention = self.number("rope.scaling.attn_factor").unwrap_or(1.0);
        if let Some(all) = factors.all {
            return RopeScaling::Factors {
                short: all.clone(),
                long: all,
                original_context,
                attention_factor: attention,
            };
        }
        if let (Some(short), Some(long)) = (factors.short, factors.long) {
            return RopeScaling::Factors {
                short,
                long,
                original_context,
                attention_factor: attention,
            };
        }
        let factor = self.number("rope.scaling.factor").unwrap_or(1.0);
        match self.text("rope.scaling.type") {
            Some("yarn") => RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast: self.number("rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                beta_slow: self.number("rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                attention_factor: attention * (1.0 + 0.1 * factor.ln()),
            },
            Some("none") => RopeScaling::None,
            _ if factor != 1.0 => RopeScaling::Linear { factor },
            _ => RopeScaling::None,
        }
    }

    fn soft_cap(&self, key: &str) -> Option<f32> {
        self.number(key)
            .filter(|&cap| cap > 0.0)
            .map(|cap| cap as f32)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.key(key))
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            // A list has one value for each layer. This backend only supports models whose layers are alike.
            Value::Numbers(numbers) => {
                let first = numbers.first()?;
                numbers
                    .iter()
                    .all(|number| number == first)
                    .then_some(*first)
            }
            value => value.number(),
        }
    }

    fn count(&self, key: &str) -> Option<usize> {
        self.number(key)
            .filter(|&count| count >= 0.0)
            .map(|count| count as usize)
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.count(key).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        Error::invalid(format!(
            "the file's metadata has no usable {}",
            self.key(key)
        ))
    }
}

/// The scale of attention, which the files do not state. That of Gemma's largest models depends on the hidden size.
fn attention_scale(
    family: &Family,
    layers: usize,
    hidden: usize,
    heads: usize,
    head: usize,
) -> f32 {
    let largest = layers == family.largest;
    let size = if largest { hidden / heads.max(1) } else { head };
    1.0 / (size as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(architecture: &str, keys: &[(&str, Value)], factors: RopeFactors) -> Result<Config> {
        let text = Value::Text(architecture.into());
        let mut metadata = HashMap::from([("general.architecture".to_owned(), text)]);
        let usual = [
            ("block_count", Value::Integer(12)),
            ("embedding_length", Value::Integer(512)),
            ("attention.head_count", Value::Integer(8)),
            ("attention.head_count_kv", Value::Integer(2)),
            ("context_length", Value::Integer(4096)),
            ("attention.layer_norm_rms_epsilon", Value::Float(1e-5)),
        ];
        for (key, value) in usual.iter().chain(keys) {
            metadata.insert(format!("{architecture}.{key}"), value.clone());
        }
        parse(&metadata.into(), factors)
    }

    #[test]
    fn llama_has_pairs_and_may_have_factors() {
        let config = read("llama", &[], RopeFactors::default()).unwrap();
        assert_eq!(
            (config.head, config.kv_heads, config.rope_layout),
            (64, 2, RopeLayout::Pairs)
        );
        assert_eq!(config.rope.scaling, RopeScaling::None);
        let factors = RopeFactors {
            all: Some(vec![1.0; 32]),
            ..RopeFactors::default()
        };
        let scaled = read("llama", &[], factors).unwrap().rope.scaling;
        assert!(matches!(
            scaled,
            RopeScaling::Factors {
                attention_factor: 1.0,
                ..
            }
        ));
    }

    #[test]
    fn gemma_3_scales_its_global_layers_only() {
        let keys = [
            ("attention.key_length", Value::Integer(256)),
            ("attention.sliding_window", Value::Integer(512)),
            ("rope.freq_base", Value::Float(1e6)),
            ("rope.scaling.type", Value::Text("linear".into())),
            ("rope.scaling.factor", Value::Float(8.0)),
        ];
        let config = read("gemma3", &keys, RopeFactors::default()).unwrap();
        assert_eq!((config.window(4), config.window(5)), (Some(512), None));
        assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 8.0 });
        assert_eq!(config.local_rope.unwrap().scaling, RopeScaling::None);
        assert_eq!(
            (config.attention_scale, config.activation),
            (1.0 / 16.0, Activation::Gelu)
        );
        assert_eq!(config.rope_layout, RopeLayout::Halves);
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        let message = |architecture, keys: &[_]| {
            read(architecture, keys, RopeFactors::default())
                .unwrap_err()
                .message
        };
        let unknown = message("mamba", &[]);
        assert!(
            unknown.contains("\"mamba\"") && unknown.contains("llama, qwen2, qwen3"),
            "{unknown}"
        );
        assert!(message("llama", &[("expert_count", Value::Integer(8))]).contains("experts"));
        let uneven = Value::Numbers(vec![8.0, 4.0]);
        assert!(
            message("llama", &[("attention.head_count", uneven)])
                .contains("llama.attention.head_count")
        );
    }
}
