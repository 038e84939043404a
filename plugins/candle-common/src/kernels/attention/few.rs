//! Products of few queries, straight from the pool: keys and values are widened as they are read.

use wide::f32x16;

use crate::kv::{Element, LANES};

/// Products of queries, `[rows, head]`, with the keys of some cells: `[rows, cells]`.
pub fn score<E: Element>(
    queries: &[f32],
    keys: &[E],
    cells: &[u32],
    head: usize,
    scores: &mut [f32],
) {
    for (at, &cell) in cells.iter().enumerate() {
        let key = &keys[cell as usize * head..][..head];
        for (row, query) in queries.chunks_exact(head).enumerate() {
            scores[row * cells.len() + at] = dot(query, key);
        }
    }
}

/// Adds the values of some cells by their weights to the sums of one row: `[head]`.
pub fn sum<E: Element>(sums: &mut [f32], weights: &[f32], values: &[E], cells: &[u32]) {
    let head = sums.len();
    let value = |cell: u32| &values[cell as usize * head..][..head];
    let (columns, rest) = sums.as_chunks_mut::<LANES>();
    let first = columns.len() * LANES;
    for (column, to) in columns.iter_mut().enumerate() {
        // The sums stay in registers while the values pass by.
        let mut sums = f32x16::new(*to);
        for (&weight, &cell) in weights.iter().zip(cells) {
            let value = lanes(&value(cell).as_chunks().0[column]);
            sums = value.mul_add(f32x16::splat(weight), sums);
        }
        *to = sums.to_array();
    }
    for (weight, &cell) in weights.iter().zip(cells) {
        let mut wide = [0.0; LANES];
        let wide = &mut wide[..rest.len()];
        E::widen(&value(cell)[first..], wide);
        rest.iter_mut()
            .zip(wide)
            .for_each(|(to, x)| *to += weight * *x);
    }
}

fn dot<E: Element>(query: &[f32], key: &[E]) -> f32 {
    let (queries, rest_of_query) = query.as_chunks();
    let (keys, rest_of_key) = key.as_chunks();
    let mut sums = f32x16::ZERO;
    for (query, key) in queries.iter().zip(keys) {
        sums = lanes(key).mul_add(f32x16::new(*query), sums);
    }
    let mut rest = [0.0; LANES];
    let rest = &mut rest[..rest_of_key.len()];
    E::widen(rest_of_key, rest);
    let rest = rest_of_query.iter().zip(rest).map(|(a, b)| a * *b);
    sums.reduce_add() + rest.sum::<f32>()
}

#[inline(always)]
fn lanes<E: Element>(from: &[E; LANES]) -> f32x16 {
    f32x16::new(E::lanes(from))
}
