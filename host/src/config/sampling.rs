//! `sampling` of `[[models]]`: the sampling parameters of requests that do not state them.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_plugin_api::SamplingDefaults;

use super::refusals::Refusals;

/// Sampling parameters.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSampling {
    /// Temperature: from 0, which always takes the most likely token, to 2.
    temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability, 0 to 1.
    top_p: Option<f32>,
    /// Sample from this many of the most likely tokens. 0: from all.
    top_k: Option<u32>,
    /// Sample from tokens at least this likely relative to the most likely one, 0 to 1.
    min_p: Option<f32>,
    /// Weakens tokens that are already in the prompt or the answer, by this factor, 0.01 to 100.
    repetition_penalty: Option<f32>,
}

impl RawSampling {
    /// Checks the values. `key` is the key of this table.
    pub fn resolve(&self, key: &[&str], refusals: &mut Refusals) -> SamplingDefaults {
        let mut within = |name, value: Option<f32>, range: RangeInclusive<f32>| {
            let value = value?;
            if range.contains(&value) {
                return Some(value);
            }
            let (min, max) = range.into_inner();
            let why = format!("must be from {min} to {max}, not {value}");
            refusals.refuse(&[key, &[name]].concat(), &why);
            None
        };
        let mut defaults = SamplingDefaults::default();
        if let Some(value) = within("temperature", self.temperature, 0.0..=2.0) {
            defaults = defaults.with_temperature(value);
        }
        if let Some(value) = within("top_p", self.top_p, 0.0..=1.0) {
            defaults = defaults.with_top_p(value);
        }
        if let Some(value) = within("min_p", self.min_p, 0.0..=1.0) {
            defaults = defaults.with_min_p(value);
        }
        if let Some(value) = within("repetition_penalty", self.repetition_penalty, 0.01..=100.0) {
            defaults = defaults.with_repetition_penalty(value);
        }
        if let Some(value) = self.top_k {
            defaults = defaults.with_top_k(value);
        }
        defaults
    }
}
