//! Arithmetic on sixteen floats at once, generic over the CPU's instructions. The sampler and the kernels of the candle
//! plugins share it. Not a part of the SDK.
//!
//! Results have the same bits with all instruction sets that multiply and add in one rounding (AVX2 with FMA, AVX-512,
//! NEON).
//!
//! Functions are inlined into callers that [`dispatch!`](fearless_simd::dispatch) compiles for each instruction set.

use std::f32::consts::LOG2_E;

use fearless_simd::{Simd, f32x8, f32x16, prelude::*, u32x16};

/// Numbers in a vector.
pub const LANES: usize = 16;

/// e to the power of `x`, within a few units in the last place; never 0 or infinite. NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(x: f32x16<S>) -> f32x16<S> {
    /// Adding this constant to a small number rounds the number to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let simd = x.token();
    let splat = |number: f32| f32x16::splat(simd, number);
    // If one of two operands is NaN, x86 returns the second operand.
    let x = splat(88.0).min(splat(-87.0).max(x));
    let rounded = x.mul_add(LOG2_E, ROUND);
    let power = rounded - ROUND;
    let rest = power.mul_add(-LN_2_HIGH, x);
    let rest = power.mul_add(-LN_2_LOW, rest);
    // The Taylor series of e^rest with |rest| ≤ ln 2 / 2, its last terms adjusted for the interval (as in Cephes).
    let series = rest.mul_add(1.987_569_1e-4, 1.398_199_9e-3);
    let series = rest.mul_add(series, 8.333_452e-3);
    let series = rest.mul_add(series, 4.166_579_6e-2);
    let series = rest.mul_add(series, 1.666_666_5e-1);
    let series = rest.mul_add(series, 0.5);
    let result = (rest * rest).mul_add(series, rest) + 1.0;
    // Times 2^power.
    let bits: u32x16<S> = result.to_bits() + (rounded.to_bits() << 23);
    f32x16::from_bits(bits)
}

/// The sum of a vector's numbers.
#[inline(always)]
pub fn sum<S: Simd>(numbers: f32x16<S>) -> f32 {
    let half = |numbers: f32x8<S>| {
        let (low, high) = numbers.split();
        let quad = low + high;
        (quad[0] + quad[2]) + (quad[1] + quad[3])
    };
    let (low, high) = numbers.split();
    half(low) + half(high)
}

/// A vector of the numbers, with `fill` in the lanes behind the last of them.
#[inline(always)]
pub fn padded<S: Simd>(simd: S, numbers: &[f32], fill: f32) -> f32x16<S> {
    let mut vector = [fill; LANES];
    vector[..numbers.len()].copy_from_slice(numbers);
    f32x16::load_array(simd, vector)
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    #[inline(always)]
    fn exp_of<S: Simd>(simd: S, x: f32) -> f32 {
        exp(f32x16::splat(simd, x))[0]
    }

    /// `exp` with the instructions of this CPU, and with those that every CPU has.
    fn exps(x: f32) -> [f32; 2] {
        [Level::new(), Level::baseline()].map(|level| dispatch!(level, simd => exp_of(simd, x)))
    }

    #[test]
    fn exp_is_exact_to_the_last_places() {
        for x in (-8000..=8000).map(|n| n as f32 / 100.0) {
            let exact = f64::from(x).exp();
            for got in exps(x) {
                let error = (f64::from(got) - exact).abs() / exact;
                assert!(error < 3e-7, "exp({x}) is off by {error}");
            }
        }
        for got in exps(-1e9) {
            assert!(got > 0.0 && got < 1e-37);
        }
        assert!(exps(f32::NAN).iter().all(|got| got.is_nan()));
    }

    #[test]
    fn sums_are_of_all_numbers() {
        for level in [Level::new(), Level::baseline()] {
            let ramp = std::array::from_fn(|lane| lane as f32);
            let sum = dispatch!(level, simd => sum(f32x16::load_array(simd, ramp)));
            assert_eq!(sum, 120.0);
        }
    }
}
