//! The parameters of DRY, a penalty that keeps an answer from repeating itself.

use aho_corasick::AhoCorasick;
use tenon_plugin_api::{TokenKind, Vocabulary};

use super::{
    super::checks::{no_empty, within},
    parameters::Parameters,
};
use crate::{engine::DryOptions, error::ApiError};

const DEFAULT_BASE: f32 = 1.75;
const DEFAULT_ALLOWED_LENGTH: u32 = 2;
const DEFAULT_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];
const BREAKERS: &str = "dry_sequence_breakers";

/// The parameters of DRY, checked and with their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct DrySettings {
    multiplier: f32,
    base: f32,
    allowed_length: u32,
    breakers: Vec<String>,
}

/// Checks a request's parameters. None if DRY is off.
pub fn settings(parameters: &Parameters) -> Result<Option<DrySettings>, ApiError> {
    let multiplier = within("dry_multiplier", parameters.dry_multiplier, 0.0..=100.0)?;
    let base = within("dry_base", parameters.dry_base, 1.0..=100.0)?;
    let default_breakers = || DEFAULT_BREAKERS.map(str::to_owned).to_vec();
    let breakers = parameters.dry_sequence_breakers.clone();
    let breakers = breakers.unwrap_or_else(default_breakers);
    no_empty(BREAKERS, &breakers)?;
    let multiplier = multiplier.filter(|&multiplier| multiplier > 0.0);
    Ok(multiplier.map(|multiplier| DrySettings {
        multiplier,
        base: base.unwrap_or(DEFAULT_BASE),
        allowed_length: parameters
            .dry_allowed_length
            .unwrap_or(DEFAULT_ALLOWED_LENGTH),
        breakers,
    }))
}

impl DrySettings {
    /// Converts the breakers to tokens: control tokens, and tokens whose text contains a breaker. Looks at the whole
    /// vocabulary, which takes a while.
    pub fn into_options(self, vocabulary: &Vocabulary) -> Result<DryOptions, ApiError> {
        let breakers = AhoCorasick::new(&self.breakers).map_err(|error| {
            let message = format!("'{BREAKERS}' cannot be used: {error}");
            ApiError::invalid_parameter(BREAKERS, message)
        })?;
        let breaks = |&token: &u32| {
            vocabulary.kind(token) == TokenKind::CONTROL
                || breakers.is_match(vocabulary.bytes(token))
        };
        Ok(DryOptions {
            multiplier: self.multiplier,
            base: self.base,
            allowed_length: self.allowed_length,
            breakers: (0..vocabulary.len() as u32).filter(breaks).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenon_plugin_api::{ByteTokenizer, Tokenizer};

    use super::*;
    use crate::routes::openai::parameters::tests::parameters_of;

    fn settings_of(fields: Value) -> Result<Option<DrySettings>, Option<String>> {
        let settings = settings(&parameters_of(fields).unwrap());
        settings.map_err(|error| error.into_envelope().error.param)
    }

    #[test]
    fn it_is_off_without_a_multiplier() {
        assert_eq!(settings_of(json!({})), Ok(None));
        assert_eq!(
            settings_of(json!({"dry_multiplier": 0, "dry_base": 2})),
            Ok(None)
        );
        let settings = settings_of(json!({"dry_multiplier": 0.8}))
            .unwrap()
            .unwrap();
        assert_eq!((settings.base, settings.allowed_length), (1.75, 2));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (name, value) in [
            ("dry_multiplier", json!(-1)),
            ("dry_base", json!(0.5)),
            (BREAKERS, json!([""])),
        ] {
            assert_eq!(
                settings_of(json!({name: value})),
                Err(Some(name.to_owned()))
            );
        }
    }

    #[test]
    fn tokens_with_a_breaker_and_control_tokens_break() {
        let vocabulary = ByteTokenizer::new(&["<|b|>"]).vocabulary().unwrap();
        let breakers = |fields: Value| {
            let settings = settings_of(fields).unwrap().unwrap();
            settings.into_options(&vocabulary).unwrap().breakers
        };
        let default = b"\n\"*:".map(u32::from);
        assert_eq!(
            breakers(json!({"dry_multiplier": 1})),
            [&default[..], &[256]].concat()
        );
        assert_eq!(
            breakers(json!({"dry_multiplier": 1, BREAKERS: ["b"]})),
            [98, 256]
        );
        assert_eq!(breakers(json!({"dry_multiplier": 1, BREAKERS: []})), [256]);
    }
}
