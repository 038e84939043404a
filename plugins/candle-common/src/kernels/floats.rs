//! Products with weights in floats, as they lie in memory: measured with up to 512 rows of input, sorting both sides first, as
//! [`gemm`](super::gemm) does, is slower.

use std::array::from_fn;

use wide::f32x16;

use super::{
    gemm::{Rows, Target},
    prefetch::prefetch,
};
use crate::kv::{Element, LANES};

/// Rows of both sides that are multiplied with each other at once: with AVX-512, all sums stay in registers.
const TILE: usize = 4;
/// Bytes of weights between those that are multiplied and those that are asked for: measured, with several rows of input and
/// with one.
const AHEAD: usize = 16_384;
const AHEAD_OF_ONE: usize = 1024;
/// Bytes of weights that are asked for at once for one row of input.
const STEP: usize = 128;

/// `target = input · weightsᵀ`: the products of all rows of both, which are equally wide.
///
/// # Safety
/// `target` has a row of numbers for each row of `input`, one for each row of `weights`, that nobody else uses meanwhile.
pub unsafe fn times_transposed<E: Element>(input: Rows, weights: &[E], target: &Target) {
    // One row waits for memory. That is fastest when it is read from one end to the other, and asked for on the way.
    let rows = if input.count() == 1 { 1 } else { TILE };
    let tile = rows * input.width;
    for (at, weights) in weights.chunks(tile).enumerate() {
        if rows > 1 {
            let soon = weights.as_ptr().wrapping_byte_add(AHEAD);
            prefetch(soon, size_of_val(weights));
        }
        let target = target.at(0, at * rows);
        // SAFETY: these are columns of the target.
        unsafe {
            match weights.len() / input.width {
                4 => multiply::<E, 4>(input, weights, &target),
                3 => multiply::<E, 3>(input, weights, &target),
                2 => multiply::<E, 2>(input, weights, &target),
                _ => multiply::<E, 1>(input, weights, &target),
            }
        }
    }
}

/// With `W` rows of weights.
unsafe fn multiply<E: Element, const W: usize>(input: Rows, weights: &[E], target: &Target) {
    for (at, input) in input.chunks(TILE) {
        let target = target.at(at, 0);
        // SAFETY: these are rows of the target.
        unsafe {
            match input.count() {
                4 => store(tile::<E, 4, W>(input, weights), &target),
                3 => store(tile::<E, 3, W>(input, weights), &target),
                2 => store(tile::<E, 2, W>(input, weights), &target),
                _ => store(tile::<E, 1, W>(input, weights), &target),
            }
        }
    }
}

/// The products of `I` rows of input and `W` of weights.
#[allow(clippy::needless_range_loop)] // Iterators and closures keep the numbers in memory instead of registers.
fn tile<E: Element, const I: usize, const W: usize>(input: Rows, weights: &[E]) -> [[f32; W]; I] {
    let width = input.width;
    let inputs: [_; I] = from_fn(|row| input.row(row).as_chunks::<LANES>());
    let weights: [_; W] = from_fn(|row| weights[row * width..][..width].as_chunks::<LANES>());
    let mut sums = [[f32x16::ZERO; W]; I];
    for at in 0..width / LANES {
        let mut numbers = [f32x16::ZERO; W];
        for w in 0..W {
            let weights = &weights[w].0[at];
            if I == 1 && (at * size_of_val(weights)).is_multiple_of(STEP) {
                prefetch(weights.as_ptr().wrapping_byte_add(AHEAD_OF_ONE), STEP);
            }
            numbers[w] = f32x16::new(E::lanes(weights));
        }
        for i in 0..I {
            let input = f32x16::new(inputs[i].0[at]);
            for w in 0..W {
                sums[i][w] = input.mul_add(numbers[w], sums[i][w]);
            }
        }
    }
    let mut products = [[0.0; W]; I];
    for w in 0..W {
        let mut rest = [0.0; LANES];
        let rest = &mut rest[..weights[w].1.len()];
        E::widen(weights[w].1, rest);
        for i in 0..I {
            let rest: f32 = inputs[i].1.iter().zip(&*rest).map(|(a, b)| a * b).sum();
            products[i][w] = sums[i][w].reduce_add() + rest;
        }
    }
    products
}

/// # Safety
/// The target has `I` rows of `W` numbers.
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
            let [left, right] = [&input, &weights].map(|data| Rows { data, width });
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
