//! The products of attention: of queries with a block of keys, and of their weights with its values.
//!
//! Each product is added up in one order, whatever else is computed with it: a token's attention has the same bits alone, in
//! a draft and in a prompt.

use std::{array::from_fn, iter::zip};

use wide::{f32x8, f32x16};

use crate::kv::{Element, LANES};

/// Keys and values that are looked at together: so many stay in the first cache.
pub const BLOCK: usize = 64;
/// Rows that are multiplied at once, and vectors of keys: all sums stay in registers.
const ROWS: usize = 6;
const VECTORS: usize = if cfg!(target_feature = "avx512f") {
    2
} else {
    1
};
/// Keys that are turned at once.
const TURNED: usize = 8;

/// The keys of some cells as columns: `[head, BLOCK]`. Behind the last of them stand numbers of no meaning.
pub fn gather_columns<E: Element>(keys: &[E], cells: &[u32], head: usize, to: &mut [f32]) {
    let (columns, _) = to.as_chunks_mut::<BLOCK>();
    for first in (0..cells.len()).step_by(TURNED) {
        let keys: [&[E]; TURNED] = from_fn(|at| {
            let cell = cells[cells.len().min(first + at + 1) - 1];
            &keys[cell as usize * head..][..head]
        });
        for (at, columns) in columns[..head].chunks_mut(LANES).enumerate() {
            let numbers = keys.map(|key| widened(&key[at * LANES..]));
            for (half, columns) in columns.chunks_mut(TURNED).enumerate() {
                let numbers = numbers.map(|numbers| f32x8::new(numbers.as_chunks().0[half]));
                for (column, turned) in zip(columns, f32x8::transpose(numbers)) {
                    column[first..][..TURNED].copy_from_slice(turned.as_array());
                }
            }
        }
    }
}

/// The values of some cells as floats: `[cells, head]`.
pub fn gather<E: Element>(values: &[E], cells: &[u32], head: usize, to: &mut [f32]) {
    let mut at = 0;
    for run in cells.chunk_by(|a, b| a + 1 == *b) {
        let (first, len) = (run[0] as usize * head, run.len() * head);
        E::widen(&values[first..][..len], &mut to[at..][..len]);
        at += len;
    }
}

/// Calls `$kernel::<R>`, where `$rows` is `R`, of up to [`ROWS`].
macro_rules! for_rows {
    ($rows:expr, $kernel:ident($($argument:expr),*)) => {
        match $rows {
            6 => $kernel::<6>($($argument),*),
            5 => $kernel::<5>($($argument),*),
            4 => $kernel::<4>($($argument),*),
            3 => $kernel::<3>($($argument),*),
            2 => $kernel::<2>($($argument),*),
            _ => $kernel::<1>($($argument),*),
        }
    };
}

/// Products of queries, `[rows, head]`, with keys as columns: `[rows, BLOCK]`.
pub fn score(queries: &[f32], keys: &[f32], head: usize, scores: &mut [f32]) {
    let keys = &keys.as_chunks().0[..head];
    let scores = scores.as_chunks_mut().0;
    for (queries, scores) in zip(queries.chunks(ROWS * head), scores.chunks_mut(ROWS)) {
        for_rows!(queries.len() / head, score_rows(queries, keys, scores));
    }
}

#[allow(clippy::needless_range_loop)] // Iterators and closures keep the numbers in memory instead of registers.
fn score_rows<const R: usize>(queries: &[f32], keys: &[[f32; BLOCK]], scores: &mut [[f32; BLOCK]]) {
    let queries: [&[f32]; R] = from_fn(|row| &queries[row * keys.len()..][..keys.len()]);
    for first in (0..BLOCK).step_by(VECTORS * LANES) {
        let mut sums = [[f32x16::ZERO; VECTORS]; R];
        for (at, keys) in keys.iter().enumerate() {
            let keys: [_; VECTORS] = from_fn(|vector| lanes(&keys[first + vector * LANES..]));
            for row in 0..R {
                let query = f32x16::splat(queries[row][at]);
                for vector in 0..VECTORS {
                    sums[row][vector] = query.mul_add(keys[vector], sums[row][vector]);
                }
            }
        }
        for row in 0..R {
            for vector in 0..VECTORS {
                let to = &mut scores[row][first + vector * LANES..][..LANES];
                to.copy_from_slice(sums[row][vector].as_array());
            }
        }
    }
}

/// Adds values, `[cells, head]`, by their weights, `[rows, BLOCK]`, to sums: `[rows, head]`.
pub fn add_values(weights: &[f32], values: &[f32], head: usize, sums: &mut [f32]) {
    let weights = weights.as_chunks().0;
    for (weights, sums) in zip(weights.chunks(ROWS), sums.chunks_mut(ROWS * head)) {
        for_rows!(
            sums.len() / head,
            add_values_to_rows(weights, values, head, sums)
        );
    }
}

#[allow(clippy::needless_range_loop)] // As above.
fn add_values_to_rows<const R: usize>(
    weights: &[[f32; BLOCK]],
    values: &[f32],
    head: usize,
    sums: &mut [f32],
) {
    let whole = head / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        let place = |row| row * head + column..row * head + column + LANES;
        let mut own = [f32x16::ZERO; R];
        for row in 0..R {
            own[row] = lanes(&sums[place(row)]);
        }
        for (cell, value) in values.chunks_exact(head).take(BLOCK).enumerate() {
            let value = lanes(&value[column..]);
            for row in 0..R {
                own[row] = value.mul_add(f32x16::splat(weights[row][cell]), own[row]);
            }
        }
        for row in 0..R {
            sums[place(row)].copy_from_slice(own[row].as_array());
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

/// The first numbers, and zeros where there are none.
#[inline(always)]
fn widened<E: Element>(numbers: &[E]) -> [f32; LANES] {
    if let Some(numbers) = numbers.first_chunk() {
        return E::lanes(numbers);
    }
    let mut wide = [0.0; LANES];
    E::widen(numbers, &mut wide[..numbers.len()]);
    wide
}

#[inline(always)]
fn lanes(numbers: &[f32]) -> f32x16 {
    f32x16::new(numbers.as_chunks().0[0])
}
