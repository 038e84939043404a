//! Checks the metadata that every backend of a language model computes with.

use std::ops::RangeInclusive;

use super::{Metadata, Value};
use crate::{Error, Result};

/// Allowed ranges of sizes, by the ends of their keys. A size holds for the whole model, or there is one for each layer. The
/// ranges leave much room above the sizes of real models.
const SIZES: [(&str, RangeInclusive<u64>); 12] = [
    ("block_count", 1..=512),
    ("context_length", 1..=1 << 30),
    ("embedding_length", 1..=1 << 20),
    ("feed_forward_length", 0..=1 << 24),
    // Models without attention have no heads.
    ("attention.head_count", 0..=1 << 14),
    ("attention.head_count_kv", 0..=1 << 14),
    ("attention.key_length", 0..=1 << 20),
    ("attention.value_length", 0..=1 << 20),
    ("attention.sliding_window", 0..=u32::MAX as u64),
    ("rope.dimension_count", 0..=1 << 20),
    ("vocab_size", 0..=4 << 20),
    ("expert_count", 0..=1 << 12),
];

/// Keys (their ends) of numbers that a model divides by or raises to a power.
const ABOVE_ZERO: [&str; 5] = [
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.group_norm_epsilon",
    "rope.freq_base",
    "rope.freq_base_swa",
];

/// Tokens that begin and end sequences.
const TOKENS: [&str; 4] = ["bos", "eos", "eot", "eom"];

impl Metadata {
    /// Checks the sizes of a language model, the numbers that it divides by, and the tokens that begin and end its texts. A
    /// missing key is no error.
    ///
    /// # Errors
    /// `INVALID`, with the first value that no model can have.
    pub fn check_model(&self) -> Result<()> {
        let architecture = self.text("general.architecture").unwrap_or_default();
        let get = |key: &str| {
            let key = format!("{architecture}.{key}");
            self.get(&key).map(|value| (key, value))
        };
        for (key, range) in &SIZES {
            if let Some((key, value)) = get(key) {
                check_size(&key, value, range)?;
            }
        }
        for key in ABOVE_ZERO {
            if let Some((key, value)) = get(key) {
                check_above_zero(&key, value)?;
            }
        }
        // RoPE rotates the dimensions in pairs.
        if let Some((key, value)) = get("rope.dimension_count")
            && value.whole().is_some_and(|count| count % 2 == 1)
        {
            return Err(refused(&key, value, "must be even"));
        }
        self.check_tokens()
    }

    fn check_tokens(&self) -> Result<()> {
        let Some(tokens) = self.texts("tokenizer.ggml.tokens") else {
            return Ok(());
        };
        for name in TOKENS {
            let key = format!("tokenizer.ggml.{name}_token_id");
            if let Some(id) = self.get(&key).filter(|id| !is_token(id, tokens.len())) {
                return Err(refused(
                    &key,
                    id,
                    &format!("the model has {} tokens", tokens.len()),
                ));
            }
        }
        Ok(())
    }
}

fn check_size(key: &str, value: &Value, range: &RangeInclusive<u64>) -> Result<()> {
    let is_size = |number: &f64| range.contains(&(*number as u64)) && *number >= 0.0;
    let (least, most) = (range.start(), range.end());
    let wanted = format!("models have {least} to {most}");
    match value {
        Value::Numbers(each) => match each.iter().find(|number| !is_size(number)) {
            Some(wrong) => Err(refused(key, &Value::Float(*wrong), &wanted)),
            None => Ok(()),
        },
        value if value.number().is_some_and(|number| is_size(&number)) => Ok(()),
        wrong => Err(refused(key, wrong, &wanted)),
    }
}

fn check_above_zero(key: &str, value: &Value) -> Result<()> {
    // Backends compute with the number in 32 bits.
    let number = value.number().map(|number| number as f32);
    match number.is_some_and(|number| number > 0.0 && number.is_finite()) {
        true => Ok(()),
        false => Err(refused(key, value, "it must be a number above 0")),
    }
}

fn is_token(value: &Value, tokens: usize) -> bool {
    value.whole().is_some_and(|id| id < tokens as u64)
}

fn refused(key: &str, value: &Value, why: &str) -> Error {
    Error::invalid(format!(
        "{key} is {value}, but {why}: download the model again"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(key: &str, value: Value) -> Result<()> {
        let metadata = HashMap::from([
            (
                "general.architecture".to_owned(),
                Value::Text("llama".into()),
            ),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Texts(vec![String::new(); 3]),
            ),
            (key.to_owned(), value),
        ]);
        Metadata::from(metadata).check_model()
    }

    #[track_caller]
    fn refused(key: &str, value: Value, expected: &str) {
        let message = check(key, value).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        let refused = |key, number, expected| {
            refused(&format!("llama.{key}"), Value::Integer(number), expected);
        };
        refused(
            "block_count",
            2_147_483_647,
            "llama.block_count is 2147483647, but models have 1 to 512",
        );
        refused("block_count", 0, "llama.block_count is 0");
        refused("embedding_length", -1, "llama.embedding_length is -1");
        refused(
            "attention.head_count",
            1 << 33,
            "llama.attention.head_count is 8589934592",
        );
        refused(
            "rope.dimension_count",
            63,
            "llama.rope.dimension_count is 63, but must be even",
        );
        assert!(check("llama.attention.head_count", Value::Integer(0)).is_ok());
    }

    #[test]
    fn lists_have_a_size_for_each_layer() {
        let heads =
            |heads: &[f64]| check("llama.attention.head_count", Value::Numbers(heads.into()));
        assert!(heads(&[8.0, 0.0]).is_ok());
        assert!(heads(&[8.0, f64::NAN]).is_err() && heads(&[-1.0]).is_err());
    }

    #[test]
    fn numbers_that_are_divided_by_are_above_zero() {
        for number in [0.0, -1.0, 1e-60, 1e60, f64::NAN] {
            refused(
                "llama.rope.freq_base",
                Value::Float(number),
                "must be a number above 0",
            );
        }
        assert!(check("llama.rope.freq_base", Value::Float(1e6)).is_ok());
    }

    #[test]
    fn tokens_that_end_texts_exist() {
        let end = "tokenizer.ggml.eos_token_id";
        refused(
            end,
            Value::Integer(3),
            "tokenizer.ggml.eos_token_id is 3, but the model has 3 tokens",
        );
        refused(end, Value::Integer(4_000_000_000), "is 4000000000");
        assert!(check(end, Value::Integer(2)).is_ok());
        assert!(check("tokenizer.ggml.padding_token_id", Value::Integer(-1)).is_ok());
    }
}
