//! Products with float weights, which are read as they lie in memory. Reordering both sides first, as [`gemm`](super::gemm)
//! does, was measured to be slower for up to 512 rows of input.

use std::{array::from_fn, iter::zip};

use fearless_simd::{Level, Simd, dispatch, f32x16, prelude::*};
use tenon_plugin_api::vectors::LANES;

use super::{
    element::Element,
    gemm::{MatrixView, Target},
    sums,
};

/// Rows of input and rows of weights that are multiplied with each other at once: as many as let all sums stay in registers. One
/// row of input is multiplied with four rows of weights on every CPU.
const fn tile_of<S: Simd>() -> (usize, usize) {
    match S::f32s::LEN {
        LANES => (4, 4),
        _ => (3, 2),
    }
}

/// `target = input · weightsᵀ`: multiplies all rows of `input` with all rows of `weights`. Both are equally wide.
///
/// # Safety
/// `target` has a row for each row of `input`, with a number for each row of `weights`. Nobody else uses them meanwhile.
pub unsafe fn times_transposed<E: Element>(input: MatrixView, weights: &[E], target: &Target) {
    // SAFETY: the caller promises it.
    dispatch!(Level::new(), simd => unsafe { products(simd, input, weights, target) });
}

/// # Safety
/// As for [`times_transposed`].
#[inline(always)]
unsafe fn products<S: Simd, E: Element>(
    simd: S,
    input: MatrixView,
    weights: &[E],
    target: &Target,
) {
    // SAFETY: the caller promises it.
    unsafe {
        match (input.count(), const { tile_of::<S>().1 }) {
            (1, _) | (_, 4) => products_by_parts::<S, E, 4>(simd, input, weights, target),
            _ => products_by_parts::<S, E, 2>(simd, input, weights, target),
        }
    }
}

/// Divides the rows of weights into `W` parts, and multiplies a row of each part at a time. A product with few rows of input
/// waits for memory, and a CPU prefetches more if it reads at several places far apart. One thread of an AMD EPYC (Zen 3) reads
/// 30 GB/s at two to six places. It reads 20 GB/s at one place, at adjacent rows, or with explicit prefetches.
///
/// # Safety
/// As for [`times_transposed`].
#[inline(always)]
unsafe fn products_by_parts<S: Simd, E: Element, const W: usize>(
    simd: S,
    input: MatrixView,
    weights: &[E],
    target: &Target,
) {
    let width = input.width;
    let rows = weights.len() / width;
    let part = rows / W;
    for row in 0..part {
        let weights = &weights[row * width..];
        // SAFETY: each row of weights has its own column of the target.
        unsafe { multiply::<S, E, W>(simd, input, weights, part, &target.at(0, row)) };
    }
    for row in W * part..rows {
        let weights = &weights[row * width..];
        // SAFETY: as above.
        unsafe { multiply::<S, E, 1>(simd, input, weights, 1, &target.at(0, row)) };
    }
}

/// Multiplies all rows of input with `W` rows of weights: the first one and others, each `apart` rows behind the one before.
///
/// # Safety
/// The target has a row for each row of input, with places for `W` numbers, each `apart` behind the one before.
#[inline(always)]
unsafe fn multiply<S: Simd, E: Element, const W: usize>(
    simd: S,
    input: MatrixView,
    weights: &[E],
    apart: usize,
    target: &Target,
) {
    for (at, input) in input.chunks(const { tile_of::<S>().0 }) {
        let target = target.at(at, 0);
        // SAFETY: these are rows of the target.
        unsafe {
            match input.count() {
                4 => tile::<S, E, 4, W>(simd, input, weights, apart, &target),
                3 => tile::<S, E, 3, W>(simd, input, weights, apart, &target),
                2 => tile::<S, E, 2, W>(simd, input, weights, apart, &target),
                _ => tile::<S, E, 1, W>(simd, input, weights, apart, &target),
            }
        }
    }
}

/// Multiplies `I` rows of input with `W` rows of weights; see [`multiply`].
///
/// # Safety
/// The target has `I` rows with places for `W` numbers, each `apart` behind the one before.
#[allow(clippy::needless_range_loop)] // Iterators and closures keep the numbers in memory instead of registers.
#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const I: usize, const W: usize>(
    simd: S,
    input: MatrixView,
    weights: &[E],
    apart: usize,
    target: &Target,
) {
    let width = input.width;
    let inputs: [_; I] = from_fn(|row| input.row(row).as_chunks::<LANES>());
    let weights: [_; W] =
        from_fn(|row| weights[row * apart * width..][..width].as_chunks::<LANES>());
    let mut sums = [[f32x16::splat(simd, 0.0); W]; I];
    for at in 0..width / LANES {
        let mut numbers = [f32x16::splat(simd, 0.0); W];
        for w in 0..W {
            numbers[w] = E::lanes(simd, &weights[w].0[at]);
        }
        for i in 0..I {
            let input = f32x16::load_array_ref(simd, &inputs[i].0[at]);
            for w in 0..W {
                sums[i][w] = input.mul_add(numbers[w], sums[i][w]);
            }
        }
    }
    for i in 0..I {
        let products = sums::sums(simd, sums[i]);
        for w in 0..W {
            let product = products[w] + product_of_rests(simd, inputs[i].1, weights[w].1);
            // SAFETY: the caller promises the place.
            unsafe { target.at(i, w * apart).start.write(product) };
        }
    }
}

/// The product of the numbers behind the last whole vectors.
#[inline(always)]
fn product_of_rests<S: Simd, E: Element>(simd: S, input: &[f32], weights: &[E]) -> f32 {
    if input.is_empty() {
        return 0.0;
    }
    let mut numbers = [0.0; LANES];
    let numbers = &mut numbers[..weights.len()];
    E::widen_with(simd, weights, numbers);
    zip(input, numbers).map(|(a, b)| a * *b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_of_products_at_every_shape() {
        let number = |at: usize| ((at * 7919) % 1009) as f32 / 504.5 - 1.0;
        for (inputs, outputs, width) in [
            (1, 1, 16),
            (1, 39, 64),
            (5, 6, 100),
            (8, 23, 15),
            (3, 4, 33),
        ] {
            let input: Vec<_> = (0..inputs * width).map(number).collect();
            let weights: Vec<_> = (0..outputs * width).map(|at| number(at + 77)).collect();
            let mut products = vec![0.0; inputs * outputs];
            let target = Target {
                start: products.as_mut_ptr(),
                stride: outputs,
            };
            let [left, right] = [&input, &weights].map(|data| MatrixView { data, width });
            // SAFETY: the target has the rows.
            unsafe { times_transposed(left, &weights, &target) };
            for (at, product) in products.iter().enumerate() {
                let (input, weights) = (left.row(at / outputs), right.row(at % outputs));
                let expected: f64 = input
                    .iter()
                    .zip(weights)
                    .map(|(a, b)| f64::from(a * b))
                    .sum();
                assert!(
                    (f64::from(*product) - expected).abs() < 1e-4,
                    "{at} of {inputs}x{outputs}x{width}"
                );
            }
        }
    }
}
