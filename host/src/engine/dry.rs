//! DRY ("don't repeat yourself"): makes a token less likely the longer the stretch of text that it would repeat.
//!
//! The rule is p-e-w's (github.com/oobabooga/text-generation-webui, pull request 5637). If the last `length` tokens also
//! occur earlier, the token that follows there is weakened by `multiplier * base^(length - allowed_length)`. A stretch
//! never contains a breaker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tenon_plugin_api::TokenBias;

/// Strength of the penalty for repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryOptions {
    /// Above 0.
    pub multiplier: f32,
    /// At least 1.
    pub base: f32,
    /// Length of a repeated stretch from which on the next token is weakened.
    pub allowed_length: u32,
    /// Tokens that end a stretch, ordered by id.
    pub breakers: Vec<u32>,
}

/// The bias of a sequence that uses DRY.
pub struct Dry {
    options: DryOptions,
    /// The request's logit bias, by token. It does not depend on the text.
    fixed: BTreeMap<u32, f32>,
    /// `[tokens]`, scratch.
    lengths: Vec<u32>,
    /// Length of the longest stretch that each token would continue. Scratch.
    repeats: BTreeMap<u32, u32>,
    bias: Vec<TokenBias>,
}

impl Dry {
    /// DRY for a sequence with these tokens and this logit bias.
    pub fn new(options: DryOptions, fixed: &[TokenBias], tokens: &[u32]) -> Self {
        let mut dry = Self {
            options,
            fixed: fixed.iter().map(|bias| (bias.token, bias.bias)).collect(),
            lengths: Vec::new(),
            repeats: BTreeMap::new(),
            bias: Vec::new(),
        };
        dry.update(tokens);
        dry
    }

    /// Logit bias of the next token. Each token occurs at most once.
    pub fn bias(&self) -> &[TokenBias] {
        &self.bias
    }

    /// Updates the bias after new tokens.
    pub fn update(&mut self, tokens: &[u32]) {
        self.find_repeats(tokens);
        let DryOptions {
            multiplier,
            base,
            allowed_length,
            ..
        } = self.options;
        let penalty = |length: u32| multiplier * base.powi((length - allowed_length) as i32);
        let fixed = &self.fixed;
        let repeats = self.repeats.iter().map(|(&token, &length)| TokenBias {
            token,
            bias: fixed.get(&token).unwrap_or(&0.0) - penalty(length),
        });
        self.bias.clear();
        self.bias.extend(repeats);
        let others = fixed
            .iter()
            .filter(|(token, _)| !self.repeats.contains_key(token));
        self.bias
            .extend(others.map(|(&token, &bias)| TokenBias { token, bias }));
    }

    fn find_repeats(&mut self, tokens: &[u32]) {
        self.repeats.clear();
        let is_breaker = |token: &u32| self.options.breakers.binary_search(token).is_ok();
        // A stretch is no longer than the text after the last breaker.
        let longest = tokens
            .iter()
            .rev()
            .take_while(|token| !is_breaker(token))
            .count() as u32;
        if longest < self.options.allowed_length.max(1) {
            return;
        }
        common_suffixes(tokens, &mut self.lengths);
        for (end, &length) in self.lengths.iter().enumerate() {
            let (next, length) = (tokens[end], length.min(longest));
            if length >= self.options.allowed_length.max(1) && !is_breaker(&next) {
                let repeat = self.repeats.entry(next).or_default();
                *repeat = length.max(*repeat);
            }
        }
    }
}

/// For each position: how many tokens before it equal the last tokens. This is the Z-algorithm (Gusfield 1997) from the
/// end, which looks at each token about twice.
fn common_suffixes(tokens: &[u32], lengths: &mut Vec<u32>) {
    let count = tokens.len();
    lengths.clear();
    lengths.resize(count, 0);
    // `from..to` is the leftmost known copy of the last tokens.
    let (mut from, mut to) = (count, count);
    for end in (1..count).rev() {
        let mut length = match end > from {
            // Inside the copy, the length is that at the same place of the original.
            true => (lengths[count - (to - end)] as usize).min(end - from),
            false => 0,
        };
        while length < end && tokens[end - 1 - length] == tokens[count - 1 - length] {
            length += 1;
        }
        lengths[end] = length as u32;
        if end - length < from {
            (from, to) = (end - length, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: u32 = 9;

    fn bias(tokens: &[u32], allowed_length: u32, fixed: &[TokenBias]) -> Vec<(u32, f32)> {
        let options = DryOptions {
            multiplier: 1.0,
            base: 2.0,
            allowed_length,
            breakers: vec![BREAKER],
        };
        let dry = Dry::new(options, fixed, tokens);
        dry.bias()
            .iter()
            .map(|bias| (bias.token, bias.bias))
            .collect()
    }

    #[test]
    fn the_token_that_would_go_on_is_weakened_by_the_length_of_the_stretch() {
        // 4 came after 1 2 3, and 5 came after 2 3.
        let tokens = [1, 2, 3, 4, 2, 3, 5, 1, 2, 3];
        assert_eq!(bias(&tokens, 2, &[]), [(4, -2.0), (5, -1.0)]);
        assert_eq!(bias(&tokens, 3, &[]), [(4, -1.0)]);
        assert_eq!(bias(&tokens, 4, &[]), []);
    }

    #[test]
    fn a_stretch_may_overlap_itself() {
        assert_eq!(bias(&[7, 7, 7, 7], 2, &[]), [(7, -2.0)]);
    }

    #[test]
    fn breakers_end_a_stretch_and_are_never_weakened() {
        assert_eq!(
            bias(&[1, BREAKER, 2, 3, 1, BREAKER, 2], 1, &[]),
            [(3, -1.0)]
        );
        assert_eq!(bias(&[1, 2, BREAKER, 1, 2], 1, &[]), []);
        assert_eq!(bias(&[1, 2, 3, BREAKER], 1, &[]), []);
        assert_eq!(bias(&[], 1, &[]), []);
    }

    #[test]
    fn each_token_is_biased_once() {
        let fixed = [(2, 0.5), (5, 1.0)].map(|(token, bias)| TokenBias { token, bias });
        assert_eq!(bias(&[1, 2, 1], 1, &fixed), [(2, -0.5), (5, 1.0)]);
    }

    #[test]
    fn common_suffixes_are_those_of_the_definition() {
        let mut lengths = Vec::new();
        for number in 0..3_u32.pow(8) {
            let tokens: Vec<u32> = (0..8).map(|digit| number / 3_u32.pow(digit) % 3).collect();
            common_suffixes(&tokens, &mut lengths);
            for end in 1..8 {
                let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
                let expected = pairs.take_while(|(a, b)| a == b).count();
                assert_eq!(lengths[end] as usize, expected, "{tokens:?} {end}");
            }
        }
    }
}
