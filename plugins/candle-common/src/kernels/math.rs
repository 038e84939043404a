//! Functions of activations and scores, on vectors. All are inlined into callers that chose the instruction set.

use fearless_simd::{Simd, f32x16, prelude::*};
pub use tenon_plugin_api::vectors::exp;
use tenon_plugin_api::vectors::{LANES, padded};

/// The dot product of two vectors.
#[inline(always)]
pub fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks();
    let (b_chunks, b_rest) = b.as_chunks();
    let mut sums = f32x16::splat(simd, 0.0);
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        sums = f32x16::load_array_ref(simd, a).mul_add(f32x16::load_array_ref(simd, b), sums);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    fold(sums) + rest
}

/// The largest number; negative infinity if there is none.
#[inline(always)]
pub fn max<S: Simd>(simd: S, numbers: &[f32]) -> f32 {
    let (chunks, rest) = numbers.as_chunks();
    let mut largest = padded(simd, rest, f32::NEG_INFINITY);
    for chunk in chunks {
        largest = largest.max(f32x16::load_array_ref(simd, chunk));
    }
    largest.reduce_max()
}

/// Replaces each number by `exp(number - shift)` and returns their sum.
#[inline(always)]
pub fn exp_sum<S: Simd>(simd: S, numbers: &mut [f32], shift: f32) -> f32 {
    let (chunks, rest) = numbers.as_chunks_mut();
    let mut sums = f32x16::splat(simd, 0.0);
    for chunk in chunks {
        let power = exp(f32x16::load_array_ref(simd, chunk) - shift);
        power.store_array(chunk);
        sums += power;
    }
    let powers = exp(padded(simd, rest, 0.0) - shift);
    rest.copy_from_slice(&powers.as_slice()[..rest.len()]);
    rest.iter().fold(fold(sums), |sum, power| sum + power)
}

/// Replaces each number by `function` of it. `function` must be `#[inline(always)]`, or it is compiled without the CPU's
/// instructions.
#[inline(always)]
pub fn map<S: Simd>(simd: S, numbers: &mut [f32], function: impl Fn(f32x16<S>) -> f32x16<S>) {
    let (chunks, rest) = numbers.as_chunks_mut();
    for chunk in chunks {
        function(f32x16::load_array_ref(simd, chunk)).store_array(chunk);
    }
    let last = function(padded(simd, rest, 0.0));
    rest.copy_from_slice(&last.as_slice()[..rest.len()]);
}

#[inline(always)]
pub fn tanh<S: Simd>(x: f32x16<S>) -> f32x16<S> {
    let one = f32x16::splat(x.token(), 1.0);
    one - (one + one) / (exp(x * 2.0) + 1.0)
}

/// `x · sigmoid(x)`
#[inline(always)]
pub fn silu<S: Simd>(x: f32x16<S>) -> f32x16<S> {
    x / (exp(-x) + 1.0)
}

/// The Gaussian error linear unit, in its approximation with a hyperbolic tangent.
#[inline(always)]
pub fn gelu<S: Simd>(x: f32x16<S>) -> f32x16<S> {
    const ROOT_2_OVER_PI: f32 = 0.797_884_6;
    let bend = x * 0.044_715 * x + 1.0;
    x * 0.5 * (tanh(x * ROOT_2_OVER_PI * bend) + 1.0)
}

/// Adds the upper half of the lanes to the lower half until one number is left.
#[inline(always)]
fn fold<S: Simd>(numbers: f32x16<S>) -> f32 {
    let mut lanes: [f32; LANES] = numbers.into();
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    const LEVELS: fn() -> [Level; 2] = || [Level::new(), Level::baseline()];

    #[inline(always)]
    fn activations<S: Simd>(simd: S, x: f32) -> [f32; 3] {
        let x = f32x16::splat(simd, x);
        [tanh(x)[0], silu(x)[0], gelu(x)[0]]
    }

    #[test]
    fn activations_are_what_their_formulas_say() {
        for x in (-8000..=8000).map(|n| f64::from(n) / 100.0) {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let exact = [
                x.tanh(),
                x / (1.0 + (-x).exp()),
                0.5 * x * (1.0 + inner.tanh()),
            ];
            for level in LEVELS() {
                let got = dispatch!(level, simd => activations(simd, x as f32));
                for (got, exact) in got.into_iter().zip(exact) {
                    let error = (f64::from(got) - exact).abs();
                    assert!(
                        error < 1e-5 * (1.0 + exact.abs()),
                        "{level:?}, {x}: {got}, not {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_cover_lengths_that_no_vector_divides() {
        for (level, len) in LEVELS()
            .into_iter()
            .flat_map(|level| [0, 1, 15, 16, 17, 64, 100].map(|len| (level, len)))
        {
            let mut ramp: Vec<_> = (0..len).map(|n| n as f32).collect();
            let squares: f32 = ramp.iter().map(|n| n * n).sum();
            let dot = dispatch!(level, simd => dot(simd, &ramp, &ramp));
            assert_eq!(dot, squares);
            let largest = dispatch!(level, simd => max(simd, &ramp));
            assert_eq!(largest, ramp.last().copied().unwrap_or(f32::NEG_INFINITY));
            let sum = dispatch!(level, simd => exp_sum(simd, &mut ramp, len as f32));
            assert!((sum - ramp.iter().sum::<f32>()).abs() < 1e-6);
        }
    }

    #[test]
    fn a_function_is_applied_to_every_number_once() {
        for level in LEVELS() {
            for len in [0, 1, 16, 37] {
                let mut ramp: Vec<_> = (0..len).map(|n| n as f32).collect();
                let doubled: Vec<_> = ramp.iter().map(|n| n * 2.0).collect();
                dispatch!(level, simd => map(simd, &mut ramp, |x| x * 2.0));
                assert_eq!(ramp, doubled);
            }
        }
    }
}
