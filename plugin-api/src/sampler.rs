//! The CPU sampler: one pure function of a row of logits and a request.
//!
//! Order: bias → penalties → mask → temperature → `top_k` → `typical_p` → `top_p` → `min_p` → draw. Each truncation works on
//! the distribution that the ones before it left. Nothing is sorted: truncations select, and the draw walks the kept tokens
//! in the order of their ids.

use std::cmp::Ordering;

use fearless_simd::{Level, Simd, dispatch, f32x16, mask32x16, prelude::*};

use crate::{
    Code, NOT_FORCED, SampleParams, SampleRequest, Sampled, TokenLogprob,
    vectors::{self, LANES},
};

/// Samples rows of logits on the CPU. Between calls it keeps its scratch space and nothing else, so any number of sequences
/// can share one sampler. Give each thread its own.
#[derive(Debug)]
pub struct CpuSampler {
    /// Tokens are below it, even where a row has more logits.
    vocab_size: usize,
    /// The row after bias, penalties and mask: `[logits_width]`.
    adjusted: Vec<f32>,
    /// Unnormalized probabilities, of which the largest is 1: `[logits_width]`.
    weights: Vec<f32>,
    /// The tokens that no truncation has removed, in the order of ids.
    candidates: Vec<Candidate>,
    /// A copy of `candidates` for selection, which reorders it.
    shuffled: Vec<Candidate>,
    /// All tokens of the row, for selecting the most likely ones.
    ranked: Vec<TokenLogprob>,
}

/// Weights that are summed before the sum is used: few enough for the sum to be exact.
const BLOCK: usize = 16 * LANES;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    weight: f32,
    /// The order of a truncation: larger values stay.
    rank: f32,
}

/// Maps [`SampleRequest::draw`] to [0, 1): its upper 53 bits as a fraction.
pub fn uniform(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

impl Default for CpuSampler {
    /// A sampler for rows that have a logit for each token, and no more.
    fn default() -> Self {
        Self::for_tokens(u32::MAX)
    }
}

impl CpuSampler {
    /// A sampler that never picks a token from `vocab_size` on: some models have rows that are longer than their vocabulary.
    pub fn for_tokens(vocab_size: u32) -> Self {
        Self {
            vocab_size: vocab_size as usize,
            adjusted: Vec::new(),
            weights: Vec::new(),
            candidates: Vec::new(),
            shuffled: Vec::new(),
            ranked: Vec::new(),
        }
    }

    /// Picks (or scores) one token. `logits` is `[logits_width]`, the row that `request` is about. Writes the answer or a
    /// status into `out`. `BAD_LOGITS`: the row has a NaN or +infinity, or nothing above -infinity. `NO_ALLOWED_TOKEN`: the
    /// mask allows no token. `INVALID`: the forced token does not exist.
    pub fn sample(&mut self, logits: &[f32], request: &SampleRequest<'_>, out: &mut Sampled<'_>) {
        out.top_len = 0;
        let logits = &logits[..logits.len().min(self.vocab_size)];
        match self.pick(logits, request) {
            Ok(token) => {
                out.token = token;
                out.status = Code::OK;
                self.report(logits, request, out);
            }
            Err(status) => out.status = status,
        }
    }

    fn pick(&mut self, logits: &[f32], request: &SampleRequest<'_>) -> Result<u32, Code> {
        let peak_of_all = peak(logits).ok_or(Code::BAD_LOGITS)?;
        if request.forced != NOT_FORCED {
            let exists = (request.forced as usize) < logits.len();
            return exists.then_some(request.forced).ok_or(Code::INVALID);
        }
        if is_plain(request) {
            return self.choose(logits, peak_of_all, request);
        }
        let mut adjusted = std::mem::take(&mut self.adjusted);
        adjust(logits, request, &mut adjusted);
        let peak = peak(&adjusted).ok_or(Code::NO_ALLOWED_TOKEN);
        let token = peak.and_then(|peak| self.choose(&adjusted, peak, request));
        self.adjusted = adjusted;
        token
    }

    /// Picks from a row whose largest logit is `peak`.
    fn choose(&mut self, row: &[f32], peak: f32, request: &SampleRequest<'_>) -> Result<u32, Code> {
        let params = &request.params;
        let token = if params.temperature <= 0.0 {
            row.iter()
                .position(|&logit| logit == peak)
                .map(|token| token as u32)
        } else {
            weigh(row, peak, params.temperature, &mut self.weights);
            match truncates(params) {
                true => {
                    self.truncate(params);
                    draw(&self.candidates, uniform(request.draw))
                }
                false => draw_from_all(&self.weights, uniform(request.draw)),
            }
        };
        token.ok_or(Code::NO_ALLOWED_TOKEN)
    }

    /// Fills `candidates` with the tokens that have a chance, and applies the truncations.
    fn truncate(&mut self, params: &SampleParams) {
        self.candidates.clear();
        let weights = (0..).zip(&self.weights);
        let possible = weights.filter(|(_, weight)| **weight > 0.0);
        self.candidates
            .extend(possible.map(|(token, &weight)| Candidate {
                token,
                weight,
                rank: weight,
            }));
        if params.top_k > 0 {
            self.keep_best(|candidates| nth_best(candidates, params.top_k as usize));
        }
        if params.typical_p < 1.0 {
            rank_by_typicality(&mut self.candidates);
            self.keep_best(|candidates| last_of_mass(candidates, params.typical_p));
            self.candidates.iter_mut().for_each(|c| c.rank = c.weight);
        }
        if params.top_p < 1.0 {
            self.keep_best(|candidates| last_of_mass(candidates, params.top_p));
        }
        if params.min_p > 0.0 {
            let peak = self.candidates.iter().map(|c| c.weight).fold(0.0, f32::max);
            self.candidates.retain(|c| c.weight >= params.min_p * peak);
        }
    }

    /// Keeps the candidates that rank at least as high as the one that `last` selects. `last` gets a copy, which it may
    /// reorder.
    fn keep_best(&mut self, last: impl FnOnce(&mut [Candidate]) -> Option<Candidate>) {
        self.shuffled.clear();
        self.shuffled.extend_from_slice(&self.candidates);
        if let Some(last) = last(&mut self.shuffled) {
            self.candidates.retain(|c| by_rank(c, &last).is_le());
        }
    }

    /// Reports log-probabilities in the model's own distribution.
    fn report(&mut self, logits: &[f32], request: &SampleRequest<'_>, out: &mut Sampled<'_>) {
        let wanted = (request.top_logprobs as usize).min(out.top_mut().len());
        if request.logprob == 0 && wanted == 0 {
            return;
        }
        let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weigh(logits, peak, 1.0, &mut self.weights);
        let total = dispatch!(Level::new(), simd => total(simd, &self.weights));
        let normalizer = peak + total.ln() as f32;
        out.logprob = logits[out.token as usize] - normalizer;
        if wanted == 0 {
            return;
        }
        self.ranked.clear();
        self.ranked.extend(
            logits
                .iter()
                .enumerate()
                .map(|(token, &logit)| TokenLogprob {
                    token: token as u32,
                    logprob: logit - normalizer,
                }),
        );
        let wanted = wanted.min(self.ranked.len());
        if wanted < self.ranked.len() {
            self.ranked.select_nth_unstable_by(wanted, by_logprob);
        }
        self.ranked[..wanted].sort_unstable_by(by_logprob);
        out.top_mut()[..wanted].copy_from_slice(&self.ranked[..wanted]);
        out.top_len = wanted as u32;
    }
}

/// Whether the row can be sampled unchanged.
fn is_plain(request: &SampleRequest<'_>) -> bool {
    request.mask().is_empty()
        && request.bias().is_empty()
        && !(request.params.penalizes()
            && !(request.counts().is_empty() && request.appended().is_empty()))
}

/// Whether a truncation may remove tokens that have a chance.
fn truncates(params: &SampleParams) -> bool {
    params.top_k > 0 || params.typical_p < 1.0 || params.top_p < 1.0 || params.min_p > 0.0
}

/// The largest logit. None if no logit is finite, or if the row has a NaN or +infinity.
fn peak(logits: &[f32]) -> Option<f32> {
    dispatch!(Level::new(), simd => peak_with(simd, logits))
}

#[inline(always)]
fn peak_with<S: Simd>(simd: S, logits: &[f32]) -> Option<f32> {
    let (chunks, rest) = logits.as_chunks();
    let last = vectors::padded(simd, rest, f32::NEG_INFINITY);
    let mut peaks = last;
    let mut nans: mask32x16<S> = last.is_nan();
    for chunk in chunks {
        let chunk = f32x16::load_array_ref(simd, chunk);
        peaks = peaks.max(chunk);
        nans |= chunk.is_nan();
    }
    let peak = peaks.reduce_max();
    (peak.is_finite() && !nans.any_true()).then_some(peak)
}

/// Writes `exp((logit − peak) / temperature)` for each logit. A tiny temperature gives 1 for the peak and 0 for the rest,
/// without a division by zero or a NaN.
fn weigh(logits: &[f32], peak: f32, temperature: f32, weights: &mut Vec<f32>) {
    weights.clear();
    weights.resize(logits.len(), 0.0);
    dispatch!(Level::new(), simd => weigh_with(simd, logits, peak, temperature, weights));
}

#[inline(always)]
fn weigh_with<S: Simd>(simd: S, logits: &[f32], peak: f32, temperature: f32, weights: &mut [f32]) {
    let (chunks, rest) = logits.as_chunks();
    let (to, to_rest) = weights.as_chunks_mut();
    for (to, chunk) in to.iter_mut().zip(chunks) {
        let logits = f32x16::load_array_ref(simd, chunk);
        weights_of(logits, peak, temperature).store_array(to);
    }
    let logits = vectors::padded(simd, rest, f32::NEG_INFINITY);
    let last = weights_of(logits, peak, temperature);
    to_rest.copy_from_slice(&last.as_slice()[..rest.len()]);
}

#[inline(always)]
fn weights_of<S: Simd>(logits: f32x16<S>, peak: f32, temperature: f32) -> f32x16<S> {
    /// At a larger distance the weight is less than a float's smallest normal number.
    const NO_CHANCE: f32 = -87.0;
    let distance = (logits - peak) / temperature;
    let none = f32x16::splat(logits.token(), 0.0);
    distance
        .simd_lt(NO_CHANCE)
        .select(none, vectors::exp(distance))
}

/// Writes the row with bias, penalties and mask applied.
fn adjust(logits: &[f32], request: &SampleRequest<'_>, adjusted: &mut Vec<f32>) {
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    for bias in request.bias() {
        if let Some(logit) = adjusted.get_mut(bias.token as usize) {
            *logit += bias.bias;
        }
    }
    if request.params.penalizes() {
        penalize(request, adjusted);
    }
    dispatch!(Level::new(), _ => forbid(request.mask(), adjusted));
}

/// Sets the logits of tokens whose mask bit is 0 to -infinity.
#[inline(always)]
fn forbid(mask: &[u32], logits: &mut [f32]) {
    for (chunk, &word) in logits.chunks_mut(32).zip(mask) {
        if word != u32::MAX {
            for (bit, logit) in chunk.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

fn penalize(request: &SampleRequest<'_>, adjusted: &mut [f32]) {
    let (counts, appended) = (request.counts(), request.appended());
    let drafted = |token: u32| appended.iter().filter(|&&t| t == token).count() as u32;
    for count in counts {
        let output = count.output + drafted(count.token);
        penalize_token(&request.params, adjusted, count.token, output);
    }
    for (at, &token) in appended.iter().enumerate() {
        let first = !appended[..at].contains(&token);
        if first && !counts.iter().any(|count| count.token == token) {
            penalize_token(&request.params, adjusted, token, drafted(token));
        }
    }
}

fn penalize_token(params: &SampleParams, adjusted: &mut [f32], token: u32, output: u32) {
    let Some(logit) = adjusted.get_mut(token as usize) else {
        return;
    };
    if *logit > 0.0 {
        *logit /= params.repetition_penalty;
    } else {
        *logit *= params.repetition_penalty;
    }
    if output > 0 {
        *logit -= params.presence_penalty + params.frequency_penalty * output as f32;
    }
}

/// Larger ranks come first, and among equals the smaller id. So the order is total and the same everywhere.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.rank.total_cmp(&a.rank).then(a.token.cmp(&b.token))
}

fn by_logprob(a: &TokenLogprob, b: &TokenLogprob) -> Ordering {
    b.logprob.total_cmp(&a.logprob).then(a.token.cmp(&b.token))
}

/// Ranks tokens by how close their surprise is to the expected surprise (Meister et al. 2022, "Locally Typical Sampling").
fn rank_by_typicality(candidates: &mut [Candidate]) {
    let total: f32 = candidates.iter().map(|c| c.weight).sum();
    let surprise = |c: &Candidate| -(c.weight / total).ln();
    let entropy: f32 = candidates
        .iter()
        .map(|c| c.weight / total * surprise(c))
        .sum();
    for candidate in candidates {
        candidate.rank = -(surprise(candidate) - entropy).abs();
    }
}

/// The `n`th best candidate; None if there are fewer.
fn nth_best(candidates: &mut [Candidate], n: usize) -> Option<Candidate> {
    let fits = n <= candidates.len();
    fits.then(|| *candidates.select_nth_unstable_by(n - 1, by_rank).1)
}

/// The last of the best candidates whose mass just reaches `share` of the whole. Halves the undecided candidates around
/// their median rank: it looks at each about twice and never sorts.
fn last_of_mass(candidates: &mut [Candidate], share: f32) -> Option<Candidate> {
    let mut missing = total_weight(candidates) * f64::from(share);
    let mut undecided = candidates;
    while undecided.len() > 1 {
        let half = undecided.len() / 2;
        undecided.select_nth_unstable_by(half, by_rank);
        let (better, worse) = undecided.split_at_mut(half);
        let mass = total_weight(better);
        if mass >= missing {
            undecided = better;
        } else {
            missing -= mass;
            undecided = worse;
        }
    }
    undecided.first().copied()
}

fn total_weight(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| f64::from(c.weight)).sum()
}

/// Walks the candidates to where the cumulative weight passes the draw.
fn draw(candidates: &[Candidate], uniform: f64) -> Option<u32> {
    let mut left = uniform * total_weight(candidates);
    for candidate in candidates {
        left -= f64::from(candidate.weight);
        if left < 0.0 {
            return Some(candidate.token);
        }
    }
    // Rounding can leave a remainder at the end.
    candidates.last().map(|c| c.token)
}

/// The same as [`draw`], over the weights of all tokens.
fn draw_from_all(weights: &[f32], uniform: f64) -> Option<u32> {
    dispatch!(Level::new(), simd => draw_with(simd, weights, uniform))
}

/// Skips whole blocks for as long as the draw lies beyond them.
#[inline(always)]
fn draw_with<S: Simd>(simd: S, weights: &[f32], uniform: f64) -> Option<u32> {
    let mut left = uniform * total(simd, weights);
    for (number, block) in weights.chunks(BLOCK).enumerate() {
        let sum = sum(simd, block);
        if left >= sum {
            left -= sum;
            continue;
        }
        for (at, &weight) in block.iter().enumerate() {
            left -= f64::from(weight);
            if left < 0.0 {
                return Some((number * BLOCK + at) as u32);
            }
        }
    }
    // Rounding can leave a remainder at the end.
    let last = weights.iter().rposition(|&weight| weight > 0.0);
    last.map(|token| token as u32)
}

#[inline(always)]
fn total<S: Simd>(simd: S, weights: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in weights.chunks(BLOCK) {
        total += sum(simd, block);
    }
    total
}

/// The sum of one block.
#[inline(always)]
fn sum<S: Simd>(simd: S, weights: &[f32]) -> f64 {
    let (chunks, rest) = weights.as_chunks();
    let mut sums = f32x16::splat(simd, 0.0);
    for chunk in chunks {
        sums += f32x16::load_array_ref(simd, chunk);
    }
    f64::from(vectors::sum(sums) + rest.iter().sum::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TokenBias, TokenCount};

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn sample(logits: &[f32], request: SampleRequest<'_>) -> Result<u32, Code> {
        CpuSampler::default().pick(logits, &request)
    }

    fn request(params: SampleParams, draw: u64) -> SampleRequest<'static> {
        let mut request = SampleRequest::new(0);
        (request.params, request.draw) = (params, draw);
        request
    }

    /// Tokens that some draw reaches under these parameters.
    fn reachable(params: SampleParams) -> Vec<u32> {
        let mut seen: Vec<u32> = (0..4096_u64)
            .map(|i| request(params, i << 52))
            .filter_map(|request| sample(&LOGITS, request).ok())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    fn hot() -> SampleParams {
        SampleParams {
            temperature: 1.0,
            ..SampleParams::default()
        }
    }

    #[test]
    fn greedy_takes_the_largest_and_the_smallest_id_among_equals() {
        assert_eq!(sample(&LOGITS, SampleRequest::new(0)), Ok(1));
    }

    #[test]
    fn truncations_keep_what_they_say() {
        assert_eq!(reachable(hot()), [0, 1, 2, 3, 4]);
        assert_eq!(reachable(SampleParams { top_k: 3, ..hot() }), [1, 2, 3]);
        assert_eq!(reachable(SampleParams { top_k: 1, ..hot() }), [1]);
        assert_eq!(
            reachable(SampleParams { top_k: 99, ..hot() }),
            [0, 1, 2, 3, 4]
        );
        // Probabilities: 0.054, 0.397, 0.146, 0.397, 0.007.
        assert_eq!(
            reachable(SampleParams {
                top_p: 0.78,
                ..hot()
            }),
            [1, 3]
        );
        assert_eq!(
            reachable(SampleParams {
                top_p: 0.82,
                ..hot()
            }),
            [1, 2, 3]
        );
        assert_eq!(
            reachable(SampleParams {
                top_p: 0.0,
                ..hot()
            }),
            [1]
        );
        assert_eq!(
            reachable(SampleParams {
                min_p: 0.3,
                ..hot()
            }),
            [1, 2, 3]
        );
        // Entropy is 1.21 nats; surprises 2.9, 0.92, 1.92, 0.92, 4.9: the two equal ones are closest.
        assert_eq!(
            reachable(SampleParams {
                typical_p: 0.7,
                ..hot()
            }),
            [1, 3]
        );
    }

    #[test]
    fn draws_follow_the_distribution() {
        let mut counts = [0_u32; 5];
        for i in 0..1_u64 << 14 {
            let request = request(hot(), i << 50);
            counts[sample(&LOGITS, request).unwrap() as usize] += 1;
        }
        let total: f32 = LOGITS.iter().map(|l| l.exp()).sum();
        for (count, logit) in counts.iter().zip(LOGITS) {
            let expected = logit.exp() / total * (1 << 14) as f32;
            assert!((*count as f32 - expected).abs() < 2.0, "{count} {expected}");
        }
    }

    /// A row whose length no vector and no block divides, with tokens of weight 0 in it. The expected tokens come from a
    /// walk over all tokens.
    #[test]
    fn draws_over_long_rows_are_those_of_a_walk_over_all_tokens() {
        let logit = |at: usize| match at % 7 {
            3 => f32::NEG_INFINITY,
            _ => ((at * 7919) % 1009) as f32 / 100.0,
        };
        let row: Vec<f32> = (0..3 * BLOCK + 21).map(logit).collect();
        let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = row.iter().map(|logit| f64::from(logit - peak).exp());
        let ends: Vec<f64> = weights
            .scan(0.0, |end, weight| {
                *end += weight;
                Some(*end)
            })
            .collect();
        let total = ends[ends.len() - 1];
        for i in 0..4096_u64 {
            let request = request(hot(), i << 52 | 1 << 51);
            let passed = uniform(request.draw) * total;
            let token = sample(&row, request).unwrap() as usize;
            let begin = if token == 0 { 0.0 } else { ends[token - 1] };
            let slack = total * 1e-6;
            assert!(
                (begin - slack..ends[token] + slack).contains(&passed) && row[token].is_finite(),
                "{token} for {passed} of {total}"
            );
        }
        assert_eq!(
            sample(&row, request(hot(), u64::MAX)).map(|token| token as usize),
            Ok(row.len() - 1)
        );
    }

    #[test]
    fn mask_bias_and_penalties_change_the_choice() {
        let mask = [0b10101];
        assert_eq!(
            sample(&LOGITS, SampleRequest::new(0).with_mask(&mask)),
            Ok(2)
        );
        let bias = [TokenBias {
            token: 4,
            bias: 50.0,
        }];
        assert_eq!(
            sample(&LOGITS, SampleRequest::new(0).with_bias(&bias)),
            Ok(4)
        );
        let counts = [TokenCount {
            token: 1,
            prompt: 1,
            output: 0,
        }];
        let params = SampleParams {
            repetition_penalty: 2.0,
            ..SampleParams::default()
        };
        let penalized = request(params, 0);
        assert_eq!(sample(&LOGITS, penalized.with_counts(&counts)), Ok(3));
        let params = SampleParams {
            frequency_penalty: 0.6,
            ..SampleParams::default()
        };
        let penalized = request(params, 0);
        assert_eq!(
            sample(&LOGITS, penalized.with_appended(&[1, 3, 1, 3])),
            Ok(2)
        );
    }

    #[test]
    fn bad_rows_and_empty_masks_fail() {
        assert_eq!(
            sample(&[0.0, f32::NAN], SampleRequest::new(0)),
            Err(Code::BAD_LOGITS)
        );
        assert_eq!(
            sample(&[0.0, f32::INFINITY], SampleRequest::new(0)),
            Err(Code::BAD_LOGITS)
        );
        assert_eq!(
            sample(&[f32::NEG_INFINITY; 3], SampleRequest::new(0)),
            Err(Code::BAD_LOGITS)
        );
        for at in [0, 15, 16, 40, 41] {
            let mut row = vec![1.0; 42];
            row[at] = f32::NAN;
            assert_eq!(sample(&row, SampleRequest::new(0)), Err(Code::BAD_LOGITS));
        }
        let none = SampleRequest::new(0).with_mask(&[0]);
        assert_eq!(sample(&LOGITS, none), Err(Code::NO_ALLOWED_TOKEN));
        let params = SampleParams {
            temperature: 1e-30,
            ..SampleParams::default()
        };
        assert_eq!(sample(&LOGITS, request(params, u64::MAX)), Ok(3));
    }

    #[test]
    fn logits_beyond_the_vocabulary_are_no_tokens() {
        let mut sampler = CpuSampler::for_tokens(3);
        let mut top = [TokenLogprob::default(); 5];
        let mut sample = |request: SampleRequest<'_>| {
            let mut out = Sampled::new(&mut top);
            sampler.sample(&[1.0, 3.0, 2.0, 9.0, f32::NAN], &request, &mut out);
            (out.status, out.token, out.top_len)
        };
        let mut scored = SampleRequest::new(0);
        (scored.logprob, scored.top_logprobs) = (1, 5);
        assert_eq!(sample(scored), (Code::OK, 1, 3));
        assert_eq!(sample(request(hot(), u64::MAX)), (Code::OK, 2, 0));
        let beyond = SampleRequest::new(0).with_mask(&[0b1000]);
        assert_eq!(sample(beyond).0, Code::NO_ALLOWED_TOKEN);
        scored.forced = 3;
        assert_eq!(sample(scored).0, Code::INVALID);
    }

    #[test]
    fn logprobs_are_of_the_models_own_distribution() {
        let mut top = [TokenLogprob::default(); 3];
        let mut out = Sampled::new(&mut top);
        let bias = [TokenBias {
            token: 4,
            bias: 50.0,
        }];
        let mut request = SampleRequest::new(0);
        (request.logprob, request.top_logprobs) = (1, 3);
        CpuSampler::default().sample(&LOGITS, &request.with_bias(&bias), &mut out);
        assert_eq!((out.token, out.status), (4, Code::OK));
        assert!((out.logprob - (-4.9249)).abs() < 1e-3, "{}", out.logprob);
        assert_eq!(
            out.top().iter().map(|t| t.token).collect::<Vec<_>>(),
            [1, 3, 2]
        );
        let mut forced = SampleRequest::new(0);
        (forced.forced, forced.logprob) = (2, 1);
        CpuSampler::default().sample(&LOGITS, &forced, &mut out);
        assert_eq!(out.token, 2);
        assert!((out.logprob - (-1.9249)).abs() < 1e-3, "{}", out.logprob);
    }
}
