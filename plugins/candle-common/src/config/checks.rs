//! Checks that every computation relies on: sizes for which memory can be allocated, and values that give finite numbers.

use tenon_plugin_api::{Error, Result};

use super::{Config, RopeConfig, RopeScaling};

/// Far more than any model has. The product of all these sizes still fits into 64 bits.
const MAX_LAYERS: usize = 512;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 1 << 14;
const MAX_CONTEXT: usize = 1 << 30;

/// Checks a number of layers before anything is allocated for each of them.
///
/// # Errors
/// `INVALID` for 0, and for more than any model has.
pub fn check_layers(layers: usize) -> Result<usize> {
    check_size("layers", layers, MAX_LAYERS).map(|()| layers)
}

/// Checks a context length before it is converted to a smaller type.
///
/// # Errors
/// As [`check_layers`].
pub fn check_context(context: usize) -> Result<u32> {
    check_size("positions", context, MAX_CONTEXT).map(|()| context as u32)
}

impl Config {
    /// # Errors
    /// `INVALID` for a value that no model can compute with; the message names it.
    pub(super) fn checked(self) -> Result<Self> {
        check_size("numbers in the hidden state", self.hidden, MAX_WIDTH)?;
        check_size("attention heads", self.heads, MAX_HEADS)?;
        check_size("key-value heads", self.kv_heads, MAX_HEADS)?;
        check_size("numbers in a head", self.head, MAX_WIDTH)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::invalid(format!(
                "the model's {} attention heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        self.check_numbers()?;
        for rope in [Some(&self.rope), self.local_rope.as_ref()]
            .into_iter()
            .flatten()
        {
            self.check_rope(rope)?;
        }
        Ok(self)
    }

    fn check_numbers(&self) -> Result<()> {
        let numbers = [
            ("epsilon of its norms", Some(self.norm_epsilon)),
            ("scale of its embedding", Some(self.embedding_scale)),
            ("scale of its attention", Some(self.attention_scale)),
            ("bound on its attention", self.attention_soft_cap),
            ("bound on its logits", self.logits_soft_cap),
        ];
        for (what, number) in numbers {
            if number.is_some_and(|number| !is_positive(number.into())) {
                let number = number.unwrap_or_default();
                return Err(Error::invalid(format!(
                    "the model's {what} is {number}, but must be a number above 0"
                )));
            }
        }
        Ok(())
    }

    fn check_rope(&self, rope: &RopeConfig) -> Result<()> {
        if rope.dimensions > self.head || rope.dimensions % 2 == 1 {
            return Err(Error::invalid(format!(
                "the model's rotary dimensions are odd or more than the {} of a head",
                self.head
            )));
        }
        if !is_positive(rope.base) {
            return Err(Error::invalid(format!(
                "the base of the model's rotary frequencies (rope_theta) is {}, but must be a number above 0",
                rope.base
            )));
        }
        if let RopeScaling::Factors { short, long, .. } = &rope.scaling
            && [short, long]
                .iter()
                .any(|factors| factors.len() != rope.dimensions / 2)
        {
            return Err(Error::invalid(format!(
                "the model has {} short and {} long factors for {} rotary frequencies",
                short.len(),
                long.len(),
                rope.dimensions / 2
            )));
        }
        // Some scalings depend on the length of the context.
        let lengths = [1, self.context_length, u32::MAX];
        let mut ropes = lengths
            .map(|length| rope.resolve(self.rope_layout, length))
            .into_iter();
        let sane = ropes.all(|rope| {
            let mut numbers = rope.frequencies.iter().chain([&rope.scale]);
            numbers.all(|number| number.is_finite())
        });
        match sane {
            true => Ok(()),
            false => Err(Error::invalid(
                "the scaling of the model's rotary frequencies (rope_scaling) makes some of them infinite: its factors must be numbers above 0",
            )),
        }
    }
}

fn is_positive(number: f64) -> bool {
    number > 0.0 && number.is_finite()
}

fn check_size(what: &str, size: usize, most: usize) -> Result<()> {
    match size {
        0 => Err(Error::invalid(format!(
            "the model's configuration has 0 {what}"
        ))),
        size if size > most => Err(Error::invalid(format!(
            "the model's configuration has {size} {what}, more than any model: at most {most} are known"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::hf;

    /// Refuses a small Llama that has these keys added or replaced.
    fn refused(keys: &str, expected: &str) {
        let mut config: serde_json::Map<_, _> = serde_json::from_str(
            r#"{"model_type": "llama", "num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2,
                "max_position_embeddings": 2048}"#,
        )
        .unwrap();
        assert!(hf::parse(&config).is_ok());
        let keys: serde_json::Map<_, _> = serde_json::from_str(keys).unwrap();
        config.extend(keys);
        let message = hf::parse(&config).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        refused(r#"{"num_hidden_layers": 2147483648}"#, "2147483648 layers");
        refused(r#"{"num_hidden_layers": 0}"#, "0 layers");
        refused(
            r#"{"hidden_size": 4294967296}"#,
            "4294967296 numbers in the hidden state",
        );
        refused(
            r#"{"num_attention_heads": 1000000}"#,
            "1000000 attention heads",
        );
        refused(r#"{"num_key_value_heads": 0}"#, "0 key-value heads");
        refused(r#"{"head_dim": 18446744073709551615}"#, "numbers in a head");
        refused(
            r#"{"max_position_embeddings": 4294967296}"#,
            "4294967296 positions",
        );
        refused(r#"{"sliding_window": 0}"#, "0 positions");
        refused(r#"{"sliding_window": 4294967296}"#, "4294967296 positions");
    }

    #[test]
    fn numbers_that_make_none_are_refused() {
        refused(r#"{"rms_norm_eps": 0}"#, "epsilon of its norms is 0");
        refused(
            r#"{"rms_norm_eps": -1e-5}"#,
            "epsilon of its norms is -0.00001",
        );
        refused(r#"{"rms_norm_eps": 1e300}"#, "epsilon of its norms is inf");
        refused(r#"{"rope_theta": 0}"#, "rope_theta) is 0");
        refused(r#"{"rope_theta": -10000}"#, "rope_theta) is -10000");
        refused(
            r#"{"query_pre_attn_scalar": 0}"#,
            "scale of its attention is inf",
        );
        refused(
            r#"{"query_pre_attn_scalar": -1}"#,
            "scale of its attention is NaN",
        );
        refused(
            r#"{"attn_logit_softcapping": -50.0}"#,
            "bound on its attention is -50",
        );
        refused(
            r#"{"rope_scaling": {"type": "linear", "factor": 0}}"#,
            "rope_scaling",
        );
        refused(
            r#"{"rope_scaling": {"type": "yarn", "factor": -4.0}}"#,
            "rope_scaling",
        );
        let factors =
            r#"{"rope_scaling": {"type": "longrope", "short_factor": [1, 1], "long_factor": [1]}}"#;
        refused(
            factors,
            "2 short and 1 long factors for 8 rotary frequencies",
        );
    }
}
