//! Rotary position embeddings (RoPE): how fast each pair of a head's numbers rotates with the position.

use std::f64::consts::TAU;

/// Which two numbers of a head rotate as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Number `i` of the first half and number `i` of the second half.
    Halves,
    /// Neighbouring numbers. GGUF files of Llama models are sorted so.
    Pairs,
}

/// Frequencies as the model's makers describe them.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// How many numbers of a head rotate, from its first on.
    pub dimensions: usize,
    /// The slowest pair rotates about this many times slower than the fastest.
    pub base: f64,
    pub scaling: RopeScaling,
}

/// How frequencies change for contexts longer than those of the original training.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// All frequencies are lowered.
    Linear {
        factor: f64,
    },
    /// Low frequencies are lowered, high ones are unchanged, with a ramp between them.
    Llama3 {
        factor: f64,
        low_frequency_factor: f64,
        high_frequency_factor: f64,
        original_context: f64,
    },
    Yarn {
        factor: f64,
        original_context: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// Factor of the rotated numbers.
        attention_factor: f64,
    },
    /// Each frequency is divided by its own factor. Contexts above the original length have other factors than shorter ones.
    Factors {
        short: Vec<f32>,
        long: Vec<f32>,
        original_context: f64,
        attention_factor: f64,
    },
}

/// Frequencies that are ready to use.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub layout: RopeLayout,
    /// Radians per position: `[pairs]`.
    pub frequencies: Vec<f32>,
    /// Factor of the rotated numbers.
    pub scale: f32,
}

impl RopeConfig {
    /// The frequencies for sequences of up to `context_length` tokens.
    pub fn resolve(&self, layout: RopeLayout, context_length: u32) -> Rope {
        let mut frequencies = self.unscaled();
        let scale = self.scaling.apply(self, context_length, &mut frequencies);
        Rope {
            layout,
            frequencies: frequencies.into_iter().map(|f| f as f32).collect(),
            scale: scale as f32,
        }
    }

    fn unscaled(&self) -> Vec<f64> {
        let dimensions = self.dimensions as f64;
        let pairs = 0..self.dimensions / 2;
        pairs
            .map(|pair| self.base.powf(-2.0 * pair as f64 / dimensions))
            .collect()
    }
}

impl RopeScaling {
    /// Changes the frequencies, and returns the factor of the rotated numbers.
    fn apply(&self, rope: &RopeConfig, context_length: u32, frequencies: &mut [f64]) -> f64 {
        match self {
            Self::None => return 1.0,
            Self::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                for frequency in frequencies {
                    let rotations = original_context * *frequency / TAU;
                    let kept = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= kept + (1.0 - kept) / factor;
                }
            }
            Self::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
            } => {
                let dimensions = rope.dimensions as f64;
                // The pair that rotates this many times within the original context.
                let pair = |rotations: f64| {
                    dimensions * (original_context / (rotations * TAU)).ln()
                        / (2.0 * rope.base.ln())
                };
                let low = pair(*beta_fast).floor().max(0.0);
                let high = pair(*beta_slow).ceil().min(dimensions - 1.0);
                let width = if high > low { high - low } else { 0.001 };
                for (pair, frequency) in frequencies.iter_mut().enumerate() {
                    let slowed = ((pair as f64 - low) / width).clamp(0.0, 1.0);
                    *frequency *= 1.0 - slowed + slowed / factor;
                }
                return *attention_factor;
            }
            Self::Factors {
                short,
                long,
                original_context,
                attention_factor,
            } => {
                let is_long = f64::from(context_length) > *original_context;
                let factors = if is_long { long } else { short };
                for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                    *frequency /= f64::from(*factor);
                }
                return *attention_factor;
            }
        }
        1.0
    }
}

/// RoPE cosines and sines of each pair at the positions of a batch. All layers of the batch use them.
#[derive(Default)]
pub struct CosSin {
    /// `[tokens, pairs]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl CosSin {
    pub fn compute(&mut self, rope: &Rope, positions: &[u32]) {
        self.cos.clear();
        self.sin.clear();
        for &position in positions {
            for &frequency in &rope.frequencies {
                // In 32 bits, large angles would lose their fraction.
                let (sin, cos) = (f64::from(position) * f64::from(frequency)).sin_cos();
                self.cos.push(cos as f32 * rope.scale);
                self.sin.push(sin as f32 * rope.scale);
            }
        }
    }

    /// Cosines: `[tokens, pairs]`, like [`sin`](Self::sin).
    #[cfg(any(test, feature = "cuda"))]
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    #[cfg(any(test, feature = "cuda"))]
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// Rotates a head of the batch's token with this number.
    #[inline(always)] // Into code with the instructions of the CPU.
    pub fn apply(&self, rope: &Rope, token: usize, head: &mut [f32]) {
        let pairs = rope.frequencies.len();
        let cos = &self.cos[token * pairs..][..pairs];
        let sin = &self.sin[token * pairs..][..pairs];
        let rotated = &mut head[..2 * pairs];
        match rope.layout {
            RopeLayout::Halves => {
                let (left, right) = rotated.split_at_mut(pairs);
                for (((x, y), cos), sin) in left.iter_mut().zip(right).zip(cos).zip(sin) {
                    (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                }
            }
            RopeLayout::Pairs => {
                let (pairs, _) = rotated.as_chunks_mut::<2>();
                for (([x, y], cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
                    (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> RopeConfig {
        RopeConfig {
            dimensions: 8,
            base: 10_000.0,
            scaling,
        }
    }

    fn frequencies(scaling: RopeScaling, context_length: u32) -> Vec<f32> {
        let rope = rope(scaling).resolve(RopeLayout::Halves, context_length);
        rope.frequencies
    }

    #[test]
    fn unscaled_frequencies_fall_by_equal_factors() {
        let plain = frequencies(RopeScaling::None, 1);
        for (got, expected) in plain.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((got - expected).abs() < 1e-6);
        }
        let linear = frequencies(RopeScaling::Linear { factor: 4.0 }, 1);
        assert_eq!(linear[0], plain[0] / 4.0);
    }

    #[test]
    fn llama_3_and_yarn_leave_the_fast_and_slow_the_slow() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 1024.0,
        };
        let yarn = RopeScaling::Yarn {
            factor: 8.0,
            original_context: 1024.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 1.2,
        };
        for scaling in [llama3, yarn] {
            let scaled = frequencies(scaling, 1);
            assert_eq!(scaled[0], 1.0);
            assert!((scaled[3] - 0.001 / 8.0).abs() < 1e-9, "{scaled:?}");
            assert!(scaled[1] > scaled[2] && scaled[2] > scaled[3]);
        }
    }

    #[test]
    fn the_session_chooses_between_short_and_long_factors() {
        let scaling = || RopeScaling::Factors {
            short: vec![1.0; 4],
            long: vec![2.0; 4],
            original_context: 4096.0,
            attention_factor: 1.5,
        };
        assert_eq!(frequencies(scaling(), 4096)[0], 1.0);
        assert_eq!(frequencies(scaling(), 4097)[0], 0.5);
        let rope = rope(scaling()).resolve(RopeLayout::Pairs, 1);
        assert_eq!(rope.scale, 1.5);
    }

    #[test]
    fn layouts_rotate_the_same_pairs_in_other_places() {
        let mut cos_sin = CosSin::default();
        let mut rope = rope(RopeScaling::None).resolve(RopeLayout::Halves, 1);
        cos_sin.compute(&rope, &[0, 3]);
        let mut halves = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let mut pairs = [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0, 9.0];
        cos_sin.apply(&rope, 1, &mut halves);
        rope.layout = RopeLayout::Pairs;
        cos_sin.apply(&rope, 1, &mut pairs);
        for pair in 0..4 {
            assert_eq!(halves[pair], pairs[2 * pair]);
            assert_eq!(halves[pair + 4], pairs[2 * pair + 1]);
        }
        let (sin, cos) = 3f32.sin_cos();
        assert!((halves[0] - (cos - 5.0 * sin)).abs() < 1e-6);
        assert_eq!(halves[8], 9.0);
        cos_sin.apply(&rope, 0, &mut pairs);
        assert_eq!(halves[0], pairs[0]);
    }
}
