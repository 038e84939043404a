//! The products of attention: of queries with a block of keys, and of softmax weights with the block's values.
//!
//! The order in which a product is summed does not depend on what else is computed: a token's attention has the same bits
//! alone, in a draft and in a prompt.

use std::{array::from_fn, iter::zip};

use fearless_simd::{Simd, f32x8, f32x16, prelude::*};
use tenon_plugin_api::vectors::LANES;

use crate::kernels::element::Element;

/// Keys and values of one block: few enough to stay in the L1 cache.
pub const BLOCK: usize = 64;
/// Rows that are multiplied at once: few enough to keep all sums in registers.
const ROWS: usize = 6;
/// Keys that are transposed at once.
const TURNED: usize = 8;

/// Gathers the keys of some cells as columns: `[head, BLOCK]`. The columns behind the last cell have no meaning.
#[inline(always)]
pub fn gather_columns<S: Simd, E: Element>(
    simd: S,
    keys: &[E],
    cells: &[u32],
    head: usize,
    to: &mut [f32],
) {
    let (columns, _) = to.as_chunks_mut::<BLOCK>();
    for first in (0..cells.len()).step_by(TURNED) {
        let keys: [&[E]; TURNED] = from_fn(|at| {
            let cell = cells[cells.len().min(first + at + 1) - 1];
            &keys[cell as usize * head..][..head]
        });
        for (at, columns) in columns[..head].chunks_mut(LANES).enumerate() {
            // The closure of `map` would be compiled without the CPU's instructions.
            let mut halves = [[f32x8::splat(simd, 0.0); TURNED]; 2];
            for (row, key) in keys.iter().enumerate() {
                let (low, high) = widened(simd, &key[at * LANES..]).split();
                (halves[0][row], halves[1][row]) = (low, high);
            }
            for (numbers, columns) in zip(halves, columns.chunks_mut(TURNED)) {
                for (column, turned) in zip(columns, transpose(numbers)) {
                    turned.store_slice(&mut column[first..][..TURNED]);
                }
            }
        }
    }
}

/// Gathers the values of some cells as floats: `[cells, head]`.
#[inline(always)]
pub fn gather<S: Simd, E: Element>(
    simd: S,
    values: &[E],
    cells: &[u32],
    head: usize,
    to: &mut [f32],
) {
    let mut at = 0;
    for run in cells.chunk_by(|a, b| a + 1 == *b) {
        let (first, len) = (run[0] as usize * head, run.len() * head);
        E::widen_with(simd, &values[first..][..len], &mut to[at..][..len]);
        at += len;
    }
}

/// Calls `$kernel` with the constant `R` for `$rows` rows, at most [`ROWS`].
macro_rules! for_rows {
    ($rows:expr, $kernel:ident<$($generic:ty),* $(; $constant:literal)?>($($argument:expr),*)) => {
        match $rows {
            6 => $kernel::<$($generic,)* 6 $(, $constant)?>($($argument),*),
            5 => $kernel::<$($generic,)* 5 $(, $constant)?>($($argument),*),
            4 => $kernel::<$($generic,)* 4 $(, $constant)?>($($argument),*),
            3 => $kernel::<$($generic,)* 3 $(, $constant)?>($($argument),*),
            2 => $kernel::<$($generic,)* 2 $(, $constant)?>($($argument),*),
            _ => $kernel::<$($generic,)* 1 $(, $constant)?>($($argument),*),
        }
    };
}

/// Multiplies queries, `[rows, head]`, with keys as columns. The products are `[rows, BLOCK]`.
#[inline(always)]
pub fn score<S: Simd>(simd: S, queries: &[f32], keys: &[f32], head: usize, scores: &mut [f32]) {
    let keys = &keys.as_chunks().0[..head];
    let scores = scores.as_chunks_mut().0;
    for (queries, scores) in zip(queries.chunks(ROWS * head), scores.chunks_mut(ROWS)) {
        let rows = queries.len() / head;
        // If a register has a whole vector, the sums of two vectors fit.
        if S::f32s::LEN == LANES {
            for_rows!(rows, score_rows<S; 2>(simd, queries, keys, scores));
        } else {
            for_rows!(rows, score_rows<S; 1>(simd, queries, keys, scores));
        }
    }
}

/// Multiplies with `V` vectors of keys at once.
#[allow(clippy::needless_range_loop)] // Iterators and closures keep the numbers in memory instead of registers.
#[inline(always)]
fn score_rows<S: Simd, const R: usize, const V: usize>(
    simd: S,
    queries: &[f32],
    keys: &[[f32; BLOCK]],
    scores: &mut [[f32; BLOCK]],
) {
    let queries: [&[f32]; R] = from_fn(|row| &queries[row * keys.len()..][..keys.len()]);
    for first in (0..BLOCK).step_by(V * LANES) {
        let mut sums = [[f32x16::splat(simd, 0.0); V]; R];
        for (at, keys) in keys.iter().enumerate() {
            let keys: [_; V] = from_fn(|vector| lanes(simd, &keys[first + vector * LANES..]));
            for row in 0..R {
                let query = f32x16::splat(simd, queries[row][at]);
                for vector in 0..V {
                    sums[row][vector] = query.mul_add(keys[vector], sums[row][vector]);
                }
            }
        }
        for row in 0..R {
            for vector in 0..V {
                let to = &mut scores[row][first + vector * LANES..][..LANES];
                sums[row][vector].store_slice(to);
            }
        }
    }
}

/// Adds weighted values to sums. `values` is `[cells, head]`, `weights` is `[rows, BLOCK]`, `sums` is `[rows, head]`.
#[inline(always)]
pub fn add_values<S: Simd>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    head: usize,
    sums: &mut [f32],
) {
    let weights = weights.as_chunks().0;
    for (weights, sums) in zip(weights.chunks(ROWS), sums.chunks_mut(ROWS * head)) {
        for_rows!(
            sums.len() / head,
            add_values_to_rows<S>(simd, weights, values, head, sums)
        );
    }
}

#[allow(clippy::needless_range_loop)] // As above.
#[inline(always)]
fn add_values_to_rows<S: Simd, const R: usize>(
    simd: S,
    weights: &[[f32; BLOCK]],
    values: &[f32],
    head: usize,
    sums: &mut [f32],
) {
    let whole = head / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        let place = |row| row * head + column..row * head + column + LANES;
        let mut own = [f32x16::splat(simd, 0.0); R];
        for row in 0..R {
            own[row] = lanes(simd, &sums[place(row)]);
        }
        for (cell, value) in values.chunks_exact(head).take(BLOCK).enumerate() {
            let value = lanes(simd, &value[column..]);
            for row in 0..R {
                own[row] = value.mul_add(weights[row][cell], own[row]);
            }
        }
        for row in 0..R {
            own[row].store_slice(&mut sums[place(row)]);
        }
    }
    for row in 0..R {
        for (cell, value) in values.chunks_exact(head).take(BLOCK).enumerate() {
            for column in whole..head {
                sums[row * head + column] += weights[row][cell] * value[column];
            }
        }
    }
}

/// The first [`LANES`] numbers as floats, with zeros in place of missing ones.
#[inline(always)]
fn widened<S: Simd, E: Element>(simd: S, numbers: &[E]) -> f32x16<S> {
    if let Some(numbers) = numbers.first_chunk() {
        return E::lanes(simd, numbers);
    }
    let mut wide = [0.0; LANES];
    E::widen_with(simd, numbers, &mut wide[..numbers.len()]);
    f32x16::load_array(simd, wide)
}

#[inline(always)]
fn lanes<S: Simd>(simd: S, numbers: &[f32]) -> f32x16<S> {
    f32x16::load_array_ref(simd, &numbers.as_chunks().0[0])
}

/// Transposes a square of numbers.
#[inline(always)]
fn transpose<S: Simd>(rows: [f32x8<S>; TURNED]) -> [f32x8<S>; TURNED] {
    // Each number reaches its place after three rounds. In a round, every row is interleaved with the row that follows half
    // of all rows later.
    let mut rows = rows;
    for _ in 0..TURNED.ilog2() {
        let pairs: [_; TURNED / 2] = from_fn(|row| rows[row].interleave(rows[row + TURNED / 2]));
        rows = from_fn(|row| {
            if row % 2 == 0 {
                pairs[row / 2].0
            } else {
                pairs[row / 2].1
            }
        });
    }
    rows
}
