//! Sampling: what to pick from a row of logits, and what was picked. These structs cross the library boundary as they are.

use abi_stable::{
    StableAbi,
    std_types::{RSlice, RSliceMut},
};

use crate::{Code, Hints, Reserved};

/// Value of [`SampleRequest::forced`] that means: choose a token.
pub const NOT_FORCED: u32 = u32::MAX;

/// Sampling parameters. The default is greedy, with everything else off.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SampleParams {
    /// Divides the logits. 0 = greedy: the largest logit, the smallest id among equals.
    pub temperature: f32,
    /// Keep the smallest set of most likely tokens with this mass. 1 = off.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the most likely one. 0 = off.
    pub min_p: f32,
    /// Keep the smallest set of tokens with this mass whose surprise is closest to the entropy (locally typical sampling). 1
    /// = off.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or output. 1 = off.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once for each time it occurs in the output. 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit once if it occurs in the output. 0 = off.
    pub presence_penalty: f32,
    /// Keep the `top_k` most likely tokens. 0 = off.
    pub top_k: u32,
    /// Zero.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub reserved: Reserved<4>,
}

impl Default for SampleParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            top_k: 0,
            reserved: Reserved::default(),
        }
    }
}

impl SampleParams {
    /// Whether any of the penalties, which need token counts, is on.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
    }
}

/// A bias for one token's logit.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TokenBias {
    /// The token's id.
    pub token: u32,
    /// What is added to the logit; negative infinity forbids the token.
    pub bias: f32,
}

/// How often a token occurs in a sequence.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// The token's id.
    pub token: u32,
    /// Times in the prompt.
    pub prompt: u32,
    /// Times in the output.
    pub output: u32,
}

/// A request to pick a token from one row of logits. Borrowed from the host for the call. Its token ids are below
/// `vocab_size`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SampleRequest<'a> {
    /// The row of logits, numbered as in [`SpanOut::first_row`](crate::SpanOut::first_row).
    pub row: u32,
    /// Score this token instead of choosing one. [`NOT_FORCED`]: choose one.
    pub forced: u32,
    /// Uniform random bits, the only source of randomness. On a CPU the upper 53 bits
    /// are mapped to [0, 1) as a fraction. A device may use them as the key of a counter-based generator.
    pub draw: u64,
    /// How to choose.
    pub params: SampleParams,
    pub(crate) mask: RSlice<'a, u32>,
    pub(crate) bias: RSlice<'a, TokenBias>,
    pub(crate) counts: RSlice<'a, TokenCount>,
    pub(crate) appended: RSlice<'a, u32>,
    /// 1 if [`Sampled::logprob`] is wanted.
    pub logprob: u32,
    /// How many of the most likely tokens to report; at most the length of [`Sampled::top`].
    pub top_logprobs: u32,
    pub(crate) reserved: Reserved<4>,
    pub(crate) hints: Hints<2>,
}

impl<'a> SampleRequest<'a> {
    /// A greedy request for this row. Set the rest through the fields and `with_…`.
    pub fn new(row: u32) -> Self {
        Self {
            row,
            forced: NOT_FORCED,
            draw: 0,
            params: SampleParams::default(),
            mask: RSlice::EMPTY,
            bias: RSlice::EMPTY,
            counts: RSlice::EMPTY,
            appended: RSlice::EMPTY,
            logprob: 0,
            top_logprobs: 0,
            reserved: Reserved::default(),
            hints: Hints::default(),
        }
    }

    /// Whether this version knows all that is asked for.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero() && self.params.reserved.is_zero()
    }

    /// Allowed tokens as bits, `[ceil(logits_width / 32)]`, bit `t % 32` of word `t / 32`; padding bits are 0. Empty: all
    /// are allowed. Applied before any truncation.
    pub fn mask(&self) -> &'a [u32] {
        self.mask.as_slice()
    }

    /// Biases, added to the logits before the penalties. Each token occurs at most once.
    pub fn bias(&self) -> &'a [TokenBias] {
        self.bias.as_slice()
    }

    /// Counts of the sequence's tokens so far, for the penalties. Each token occurs at most once.
    pub fn counts(&self) -> &'a [TokenCount] {
        self.counts.as_slice()
    }

    /// Draft tokens before this row, counted as output on top of `counts`.
    pub fn appended(&self) -> &'a [u32] {
        self.appended.as_slice()
    }

    /// The same request with this mask.
    pub fn with_mask(self, mask: &'a [u32]) -> Self {
        Self {
            mask: mask.into(),
            ..self
        }
    }

    /// The same request with these biases.
    pub fn with_bias(self, bias: &'a [TokenBias]) -> Self {
        Self {
            bias: bias.into(),
            ..self
        }
    }

    /// The same request with these counts.
    pub fn with_counts(self, counts: &'a [TokenCount]) -> Self {
        Self {
            counts: counts.into(),
            ..self
        }
    }

    /// The same request with these draft tokens.
    pub fn with_appended(self, appended: &'a [u32]) -> Self {
        Self {
            appended: appended.into(),
            ..self
        }
    }
}

/// A token and the natural logarithm of its probability.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TokenLogprob {
    /// The token's id.
    pub token: u32,
    /// Log-probability in the model's own distribution: before bias, penalties, temperature and mask.
    pub logprob: f32,
}

/// The answer to the [`SampleRequest`] at the same place. The host lends the buffer `top`; the plugin fills it and writes the
/// other fields. The host refuses answers that have changed places.
#[repr(C)]
#[derive(StableAbi)]
pub struct Sampled<'a> {
    /// The token, below `vocab_size`.
    pub token: u32,
    /// The token's log-probability (natural, in the model's own distribution), if [`SampleRequest::logprob`] asked for it.
    pub logprob: f32,
    pub(crate) top: RSliceMut<'a, TokenLogprob>,
    /// How many entries of `top` were written.
    pub top_len: u32,
    /// [`Code::OK`], or why this request has no token. The others are not affected.
    pub status: Code,
    /// Zero.
    pub reserved: Reserved<2>,
    /// Zero.
    pub hints: Hints<1>,
}

impl<'a> Sampled<'a> {
    /// An empty answer with room for `top.len()` most likely tokens.
    pub fn new(top: &'a mut [TokenLogprob]) -> Self {
        Self {
            token: 0,
            logprob: 0.0,
            top: top.into(),
            top_len: 0,
            status: Code::OK,
            reserved: Reserved::default(),
            hints: Hints::default(),
        }
    }

    /// Whether this version knows all that the answer says.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero()
    }

    /// Addresses of the buffer `top`. They are not followed, so the other side may have written anything there.
    pub fn buffer(&self) -> std::ops::Range<*const TokenLogprob> {
        let first = self.top.as_ptr();
        first..first.wrapping_add(self.top.len())
    }

    /// The most likely tokens, the most likely first. A `top_len` beyond the buffer is cut.
    pub fn top(&self) -> &[TokenLogprob] {
        let top = self.top.as_slice();
        &top[..top.len().min(self.top_len as usize)]
    }

    /// Buffer for the most likely tokens. Set `top_len` after writing.
    pub fn top_mut(&mut self) -> &mut [TokenLogprob] {
        self.top.as_mut_slice()
    }
}
