//! Reads the `config.json` of a Hugging Face directory.

use std::path::Path;

use serde_json::{Map, Value};
use tenon_plugin_api::{Code, Error, Result, files::read_json};

use super::{
    Config, Family, RopeConfig, RopeLayout, RopeScaling, check_context, check_layers, family,
    sentence_transformers,
};
use crate::kernels::elementwise::Activation;

const FILE: &str = "config.json";

/// Reads the configuration of the model in a directory.
///
/// # Errors
/// `IO`; `INVALID` for an unknown architecture, and for values that are missing or make no sense; the message names them.
pub fn read(directory: &Path) -> Result<Config> {
    let path = directory.join(FILE);
    let parsed: Map<String, Value> = read_json(&path)?.ok_or_else(|| {
        Error::new(
            Code::IO,
            format!(
                "{} does not exist: a model's directory needs one",
                path.display()
            ),
        )
    })?;
    let config = parse(&parsed).map_err(|error| error.in_file(&path))?;
    Ok(Config {
        pooling: sentence_transformers::pooling(directory)?,
        ..config
    })
}

pub(super) fn parse(json: &Map<String, Value>) -> Result<Config> {
    let fields = Fields(json);
    let name = fields.text("model_type").unwrap_or_default();
    let family = family(name, |family| family.hf)?;
    if json.contains_key("quantization_config") {
        return Err(Error::invalid(
            "\"quantization_config\" means weights that were quantized for other programs: give the original model",
        ));
    }
    let heads = fields.required("num_attention_heads")?;
    let hidden = fields.required("hidden_size")?;
    let head = match fields.count("head_dim") {
        Some(head) => head,
        None if family.gemma => 256,
        None => hidden / heads.max(1),
    };
    let layers = check_layers(fields.required("num_hidden_layers")?)?;
    let context_length = fields.count("max_position_embeddings").unwrap_or(2048);
    let scalar = fields.number("query_pre_attn_scalar");
    let global = fields.rope(family, "full_attention", head, context_length)?;
    Config {
        architecture: name.to_owned(),
        layers,
        hidden,
        heads,
        kv_heads: fields.count("num_key_value_heads").unwrap_or(heads),
        head,
        context_length: check_context(context_length)?,
        activation: fields.activation()?,
        norm_epsilon: fields.number("rms_norm_eps").unwrap_or(1e-6) as f32,
        norm_offset: if family.gemma { 1.0 } else { 0.0 },
        embedding_scale: if family.gemma {
            (hidden as f32).sqrt()
        } else {
            1.0
        },
        attention_scale: (1.0 / scalar.unwrap_or(head as f64).sqrt()) as f32,
        attention_soft_cap: fields
            .number("attn_logit_softcapping")
            .map(|cap| cap as f32),
        logits_soft_cap: fields
            .number("final_logit_softcapping")
            .map(|cap| cap as f32),
        rope_layout: RopeLayout::Halves,
        local_rope: fields.local_rope(family, &global, head, context_length)?,
        rope: global,
        window: fields.window()?,
        local: fields.local(family, layers),
        tied: fields.flag("tie_word_embeddings").unwrap_or(family.gemma),
        pooling: None,
    }
    .checked()
}

/// A JSON object, with typed look-ups of its keys.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn object(&self, key: &str) -> Option<Fields<'a>> {
        self.0.get(key)?.as_object().map(Fields)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key)?.as_str()
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64()
    }

    fn count(&self, key: &str) -> Option<usize> {
        self.0.get(key)?.as_u64().map(|count| count as usize)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }

    fn factors(&self, key: &str) -> Result<Vec<f32>> {
        let list = self.0.get(key).and_then(Value::as_array);
        let numbers = list.and_then(|list| {
            list.iter()
                .map(|number| number.as_f64().map(|number| number as f32))
                .collect()
        });
        numbers.ok_or_else(|| missing(key))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.count(key).ok_or_else(|| missing(key))
    }

    fn required_number(&self, key: &str) -> Result<f64> {
        self.number(key).ok_or_else(|| missing(key))
    }

    fn activation(&self) -> Result<Activation> {
        let given = self.text("hidden_activation").or(self.text("hidden_act"));
        match given.unwrap_or("silu") {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::Gelu),
            other => Err(Error::invalid(format!(
                "the activation {other:?} is not known: silu and gelu_pytorch_tanh are"
            ))),
        }
    }

    fn window(&self) -> Result<Option<u32>> {
        let used = self.flag("use_sliding_window").unwrap_or(true);
        let window = self.count("sliding_window").filter(|_| used);
        window.map(check_context).transpose()
    }

    fn local(&self, family: &Family, layers: usize) -> Vec<bool> {
        let listed = self.0.get("layer_types").and_then(Value::as_array);
        if let Some(types) = listed.filter(|types| types.len() == layers) {
            return types
                .iter()
                .map(|kind| kind == "sliding_attention")
                .collect();
        }
        // Qwen2's first layers see all positions.
        if let Some(first) = self.count("max_window_layers") {
            return (0..layers).map(|layer| layer >= first).collect();
        }
        let pattern = self.count("sliding_window_pattern");
        family.local(layers, pattern.unwrap_or(family.pattern))
    }

    /// The RoPE configuration of the layers of this kind. Depending on the age of the file it is in one of three places.
    fn rope(&self, family: &Family, kind: &str, head: usize, context: usize) -> Result<RopeConfig> {
        let parameters = self.object("rope_parameters");
        let scaling = match parameters {
            Some(parameters) => Some(parameters.object(kind).unwrap_or(parameters)),
            None => self.object("rope_scaling"),
        };
        let base = scaling
            .as_ref()
            .and_then(|scaling| scaling.number("rope_theta"));
        let usual = if family.two_ropes { 1e6 } else { 1e4 };
        let share = self.number("partial_rotary_factor").unwrap_or(1.0);
        let mut rope = RopeConfig {
            dimensions: (head as f64 * share) as usize,
            base: base.or(self.number("rope_theta")).unwrap_or(usual),
            scaling: RopeScaling::None,
        };
        if let Some(scaling) = scaling {
            let original = self.number("original_max_position_embeddings");
            rope.scaling = scaling.scaling(original, context as f64)?;
        }
        Ok(rope)
    }

    fn local_rope(
        &self,
        family: &Family,
        global: &RopeConfig,
        head: usize,
        context: usize,
    ) -> Result<Option<RopeConfig>> {
        if !family.two_ropes {
            return Ok(None);
        }
        if let Some(parameters) = self.object("rope_parameters")
            && parameters.object("sliding_attention").is_some()
        {
            return self
                .rope(family, "sliding_attention", head, context)
                .map(Some);
        }
        Ok(Some(RopeConfig {
            base: self.number("rope_local_base_freq").unwrap_or(1e4),
            scaling: RopeScaling::None,
            ..global.clone()
        }))
    }

    /// The scaling that this object describes. `original` is the original context length that stands outside of the object.
    fn scaling(&self, original: Option<f64>, context: f64) -> Result<RopeScaling> {
        let original_context = self
            .number("original_max_position_embeddings")
            .or(original)
            .unwrap_or(context);
        let kind = self.text("rope_type").or(self.text("type"));
        Ok(match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear {
                factor: self.required_number("factor")?,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: self.required_number("factor")?,
                low_frequency_factor: self.required_number("low_freq_factor")?,
                high_frequency_factor: self.required_number("high_freq_factor")?,
                original_context,
            },
            "yarn" => {
                let factor = self.required_number("factor")?;
                let attention = self.number("attention_factor");
                RopeScaling::Yarn {
                    factor,
                    original_context,
                    beta_fast: self.number("beta_fast").unwrap_or(32.0),
                    beta_slow: self.number("beta_slow").unwrap_or(1.0),
                    attention_factor: attention.unwrap_or(1.0 + 0.1 * factor.ln()),
                }
            }
            "longrope" | "su" => {
                let longer = (context / original_context).max(1.0);
                let attention = self.number("attention_factor");
                RopeScaling::Factors {
                    short: self.factors("short_factor")?,
                    long: self.factors("long_factor")?,
                    original_context,
                    attention_factor: attention
                        .unwrap_or((1.0 + longer.ln() / original_context.ln()).sqrt()),
                }
            }
            other => {
                return Err(Error::invalid(format!(
                    "the rope scaling {other:?} is not known: linear, llama3, yarn and longrope are"
                )));
            }
        })
    }
}

fn missing(key: &str) -> Error {
    Error::invalid(format!("{key:?} is missing or no such value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config> {
        parse(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_llama_is_plain() {
        let config = read(
            r#"{"model_type": "llama", "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576,
                "num_hidden_layers": 30, "max_position_embeddings": 8192, "rope_theta": 100000,
                "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu", "rope_scaling": null}"#,
        )
        .unwrap();
        assert_eq!((config.head, config.group(), config.tied), (64, 3, true));
        assert_eq!(config.rope.base, 100_000.0);
        assert_eq!(config.rope.scaling, RopeScaling::None);
        assert_eq!(config.attention_scale, 0.125);
        assert_eq!((config.window(0), config.norm_offset), (None, 0.0));
    }

    #[test]
    fn gemma_3_alternates_local_and_global_layers() {
        let config = read(
            r#"{"model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 1024,
                "num_hidden_layers": 7, "query_pre_attn_scalar": 64, "sliding_window": 512,
                "hidden_activation": "gelu_pytorch_tanh",
                "rope_scaling": {"rope_type": "linear", "factor": 8.0}}"#,
        )
        .unwrap();
        let local = |layer| config.window(layer) == Some(512);
        assert_eq!(
            (0..7).filter(|&layer| !local(layer)).collect::<Vec<_>>(),
            [5]
        );
        assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 8.0 });
        assert_eq!(config.rope.base, 1e6);
        let local = config.local_rope.unwrap();
        assert_eq!((local.base, local.scaling), (1e4, RopeScaling::None));
        assert_eq!((config.embedding_scale, config.norm_offset), (32.0, 1.0));
        assert_eq!((config.attention_scale, config.tied), (0.125, true));
        assert_eq!(config.activation, Activation::Gelu);
    }

    #[test]
    fn gemma_2_caps_and_qwen_2_leaves_its_window_unused() {
        let gemma = read(
            r#"{"model_type": "gemma2", "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_size": 2304,
                "num_hidden_layers": 4, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                "sliding_window": 4096, "hidden_act": "gelu_pytorch_tanh"}"#,
        )
        .unwrap();
        assert_eq!(gemma.local, [true, false, true, false]);
        assert_eq!(
            (gemma.attention_soft_cap, gemma.logits_soft_cap),
            (Some(50.0), Some(30.0))
        );
        let qwen = read(
            r#"{"model_type": "qwen2", "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896,
                "num_hidden_layers": 2, "sliding_window": 32768, "use_sliding_window": false, "max_window_layers": 21}"#,
        )
        .unwrap();
        assert_eq!(qwen.window(1), None);
    }

    #[test]
    fn scalings_are_read_with_what_they_need() {
        let phi = |scaling: &str| {
            read(&format!(
                r#"{{"model_type": "phi3", "num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 1,
                    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
                    "rope_scaling": {scaling}}}"#
            ))
            .map(|config| config.rope.scaling)
        };
        let long =
            phi(r#"{"type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [2, 3]}"#);
        let Ok(RopeScaling::Factors {
            long,
            original_context,
            attention_factor,
            ..
        }) = long
        else {
            panic!("{long:?}");
        };
        assert_eq!((long, original_context), (vec![2.0, 3.0], 4096.0));
        assert!((attention_factor - 1.190_238).abs() < 1e-5);
        assert!(phi(r#"{"rope_type": "yarn", "factor": 4.0}"#).is_ok());
        assert!(
            phi(r#"{"rope_type": "dynamic", "factor": 4.0}"#)
                .unwrap_err()
                .message
                .contains("dynamic")
        );
        assert!(
            phi(r#"{"rope_type": "llama3", "factor": 4.0}"#)
                .unwrap_err()
                .message
                .contains("low_freq_factor")
        );
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        let message = |json| read(json).unwrap_err().message;
        let unknown = message(r#"{"model_type": "mamba"}"#);
        assert!(
            unknown.contains("\"mamba\"") && unknown.contains("llama, mistral, qwen2"),
            "{unknown}"
        );
        assert!(message(r#"{"model_type": "llama"}"#).contains("num_attention_heads"));
        assert!(
            message(r#"{"model_type": "llama", "quantization_config": {}}"#).contains("original")
        );
        let uneven = r#"{"model_type": "llama", "num_attention_heads": 9, "num_key_value_heads": 2,
                         "hidden_size": 576, "num_hidden_layers": 1}"#;
        assert!(message(uneven).contains("evenly"));
    }
}
