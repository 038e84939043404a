//! Products with float weights, which are read as they lie in memory. Reordering both sides first, as [`gemm`](super::gemm)
//! does, was measured to be slower for up to 512 rows of input.

use std::{array::from_fn, iter::zip};

use fearless_simd::{Level, Simd, dispatch, f32x16, prelude::*};
use tenon_plugin_api::vectors::LANES;

use super::{
    element::Element,
    gemm::{MatrixView, Target},
    prefetch::prefetch,
    sums,
};

/// Rows of input and rows of weights that are multiplied with each other at once: as many as let all sums stay in registers.
const fn tile_of<S: Simd>() -> (usize, usize) {
    match S::f32s::LEN {
        LANES => (4, 4),
        _ => (3, 2),
    }
}

/// Distance in bytes between the weights that are multiplied and those that are prefetched, as measured with several rows of
/// input and with one.
const AHEAD: usize = 16_384;
const AHEAD_OF_ONE: usize = 1024;
/// Bytes of weights that are prefetched at once for one row of input.
const STEP: usize = 128;

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
    let rows = const { tile_of::<S>().1 };
    for (at, weights) in weights.chunks(rows * input.width).enumerate() {
        // With one row the product waits for memory. Reading the weights from one end to the other with prefetches is fastest
        // then.
        if input.count() > 1 {
            let soon = weights.as_ptr().wrapping_byte_add(AHEAD);
            prefetch(soon, size_of_val(weights));
        }
        let target = target.at(0, at * rows);
        // SAFETY: these are columns of the target.
        unsafe {
            match weights.len() / input.width {
                4 => multiply::<S, E, 4>(simd, input, weights, &target),
                3 => multiply::<S, E, 3>(simd, input, weights, &target),
                2 => multiply::<S, E, 2>(simd, input, weights, &target),
                _ => multiply::<S, E, 1>(simd, input, weights, &target),
            }
        }
    }
}

/// Multiplies all rows of input with `W` rows of weights.
#[inline(always)]
unsafe fn multiply<S: Simd, E: Element, const W: usize>(
    simd: S,
    input: MatrixView,
    weights: &[E],
    target: &Target,
) {
    for (at, input) in input.chunks(const { tile_of::<S>().0 }) {
        let target = target.at(at, 0);
        // SAFETY: these are rows of the target.
        unsafe {
            match input.count() {
                4 => store(tile::<S, E, 4, W>(simd, input, weights), &target),
                3 => store(tile::<S, E, 3, W>(simd, input, weights), &target),
                2 => store(tile::<S, E, 2, W>(simd, input, weights), &target),
                _ => store(
                    [tile_of_one::<S, E, W>(simd, input.row(0), weights)],
                    &target,
                ),
            }
        }
    }
}

/// The products of `I` rows of input and `W` rows of weights.
#[allow(clippy::needless_range_loop)] // Iterators and closures keep the numbers in memory instead of registers.
#[inline(always)]
fn tile<S: Simd, E: Element, const I: usize, const W: usize>(
    simd: S,
    input: MatrixView,
    weights: &[E],
) -> [[f32; W]; I] {
    let width = input.width;
    let inputs: [_; I] = from_fn(|row| input.row(row).as_chunks::<LANES>());
    let weights: [_; W] = from_fn(|row| weights[row * width..][..width].as_chunks::<LANES>());
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
    let mut products = [[0.0; W]; I];
    for i in 0..I {
        products[i] = sums::sums(simd, sums[i]);
        for w in 0..W {
            products[i][w] += product_of_rests(simd, inputs[i].1, weights[w].1);
        }
    }
    products
}

/// The products of one row of input and `W` rows of weights, which are read one after the other.
#[allow(clippy::needless_range_loop)] // As above.
#[inline(always)]
fn tile_of_one<S: Simd, E: Element, const W: usize>(
    simd: S,
    input: &[f32],
    weights: &[E],
) -> [f32; W] {
    let width = input.len();
    let (input, input_rest) = input.as_chunks::<LANES>();
    let weights: [_; W] = from_fn(|row| weights[row * width..][..width].as_chunks::<LANES>());
    let mut sums = [f32x16::splat(simd, 0.0); W];
    for w in 0..W {
        sums[w] = product(simd, input, weights[w].0);
    }
    let mut products = sums::sums(simd, sums);
    for w in 0..W {
        products[w] += product_of_rests(simd, input_rest, weights[w].1);
    }
    products
}

/// The sums of the products in each lane. The loop has few instructions, so that the CPU has many loads of weights under way.
#[inline(always)]
fn product<S: Simd, E: Element>(
    simd: S,
    input: &[[f32; LANES]],
    weights: &[[E; LANES]],
) -> f32x16<S> {
    let mut sum = f32x16::splat(simd, 0.0);
    let step = const { STEP / size_of::<[E; LANES]>() };
    let weights = &weights[..input.len()];
    let whole = input.len() / step * step;
    for first in (0..whole).step_by(step) {
        let soon = weights[first].as_ptr().wrapping_byte_add(AHEAD_OF_ONE);
        prefetch(soon, STEP);
        for at in first..first + step {
            sum =
                f32x16::load_array_ref(simd, &input[at]).mul_add(E::lanes(simd, &weights[at]), sum);
        }
    }
    for at in whole..input.len() {
        sum = f32x16::load_array_ref(simd, &input[at]).mul_add(E::lanes(simd, &weights[at]), sum);
    }
    sum
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

/// # Safety
/// The target has `I` rows of `W` numbers.
#[inline(always)]
unsafe fn store<const I: usize, const W: usize>(products: [[f32; W]; I], target: &Target) {
    for (row, products) in products.iter().enumerate() {
        let to = target.at(row, 0).start;
        // SAFETY: the caller promises it.
        unsafe { to.copy_from_nonoverlapping(products.as_ptr(), W) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_of_products_at_every_shape() {
        let number = |at: usize| ((at * 7919) % 1009) as f32 / 504.5 - 1.0;
        for (inputs, outputs, width) in
            [(1, 1, 16), (1, 9, 64), (5, 6, 100), (8, 7, 15), (3, 4, 33)]
        {
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
