//! Arithmetic that the compiler turns into vector instructions: sums in lanes, and functions without branches or calls.

/// Numbers summed side by side: the widest vector of today's CPUs.
const LANES: usize = 16;

/// `a · b + c`, in one instruction where the CPU has it. (`mul_add` is a slow call where it has not.)
#[inline(always)]
pub fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Sum of products.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] = multiply_add(a[lane], b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sum_lanes(sums) + rest
}

/// The largest number; negative infinity for none.
#[inline]
pub fn max(numbers: &[f32]) -> f32 {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, larger)
}

/// Replaces each number by `exp(number - shift)` and gives their sum.
#[inline]
pub fn exp_sum(numbers: &mut [f32], shift: f32) -> f32 {
    let (chunks, rest) = numbers.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - shift);
            sums[lane] += chunk[lane];
        }
    }
    let mut sum = sum_lanes(sums);
    for number in rest {
        *number = exp(*number - shift);
        sum += *number;
    }
    sum
}

/// e to the power of `x`, within a few units in the last place; never 0 or infinite.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it to a small number rounds that to a whole one, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let power = rounded - ROUND;
    let rest = multiply_add(power, -LN_2_HIGH, x);
    let rest = multiply_add(power, -LN_2_LOW, rest);
    // The Taylor series of e^rest with |rest| ≤ ln 2 / 2, its last terms adjusted for the interval (as in Cephes).
    let series = multiply_add(rest, 1.987_569_1e-4, 1.398_199_9e-3);
    let series = multiply_add(rest, series, 8.333_452e-3);
    let series = multiply_add(rest, series, 4.166_579_6e-2);
    let series = multiply_add(rest, series, 1.666_666_5e-1);
    let series = multiply_add(rest, series, 0.5);
    let result = multiply_add(rest * rest, series, rest) + 1.0;
    // Times 2^power.
    f32::from_bits(result.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// `x · sigmoid(x)`
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Gaussian error linear unit, in the form with a hyperbolic tangent.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const ROOT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(ROOT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x)))
}

#[inline(always)]
fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
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
    use super::*;

    fn numbers() -> impl Iterator<Item = f32> {
        (-8000..=8000).map(|n| n as f32 / 100.0)
    }

    #[test]
    fn exp_is_exact_to_the_last_places() {
        for x in numbers() {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(-1e9) > 0.0 && exp(-1e9) < 1e-37);
    }

    #[test]
    fn activations_are_what_their_formulas_say() {
        for x in numbers().map(f64::from) {
            let check = |name, got: f32, exact: f64| {
                let error = (f64::from(got) - exact).abs();
                assert!(
                    error < 1e-5 * (1.0 + exact.abs()),
                    "{name}({x}) is off by {error}"
                );
            };
            check("tanh", tanh(x as f32), x.tanh());
            check("silu", silu(x as f32), x / (1.0 + (-x).exp()));
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            check("gelu", gelu(x as f32), 0.5 * x * (1.0 + inner.tanh()));
        }
    }

    #[test]
    fn sums_cover_lengths_that_no_vector_divides() {
        for len in [0, 1, 15, 16, 17, 64, 100] {
            let mut ramp: Vec<_> = (0..len).map(|n| n as f32).collect();
            let squares: f32 = ramp.iter().map(|n| n * n).sum();
            assert_eq!(dot(&ramp, &ramp), squares);
            assert_eq!(
                max(&ramp),
                ramp.last().copied().unwrap_or(f32::NEG_INFINITY)
            );
            let sum = exp_sum(&mut ramp, len as f32);
            assert!((sum - ramp.iter().sum::<f32>()).abs() < 1e-6);
        }
    }
}
