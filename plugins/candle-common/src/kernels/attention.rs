//! Attention over the KV pool. Keys and values are read where the pool stores them.
//!
//! A *tile* is a few neighbouring queries of one sequence. For each tile and each KV head, the sequence's keys and values
//! are read block by block, and a running softmax accumulates the result: no buffer is as long as the sequence.

mod products;

use std::{cell::RefCell, ops::Range};

use fearless_simd::{Level, Simd, dispatch, f32x16, prelude::*};

use super::{element::Element, elementwise::soft_cap, math, prefetch::prefetch};
use crate::{
    kv::LayerKv,
    matrix::Matrix,
    pool::{self, SharedRows},
};
use products::BLOCK;

/// Most queries in a tile.
const TILE: usize = 32;

/// A sequence's part of a batch.
#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    /// The sequence's first token in the batch.
    pub first: usize,
    /// How many of the sequence's tokens are in the batch.
    pub len: usize,
    /// Cells of all of the sequence's keys and values, those of the batch last.
    pub cells: &'a [u32],
}

impl SpanView<'_> {
    /// Position of the sequence's first token in the batch.
    pub fn position(&self) -> usize {
        self.cells.len() - self.len
    }
}

/// The shape of attention: what does not depend on the batch.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub soft_cap: Option<f32>,
    /// How many positions a query sees, its own included. None: all positions up to its own.
    pub window: Option<u32>,
}

/// Neighbouring queries of one span.
#[derive(Clone, Copy, Debug)]
pub struct QueryTile<'a> {
    span: SpanView<'a>,
    /// The tile's first query, counted from the span's first.
    first: usize,
    len: usize,
}

/// Cuts spans into tiles.
pub fn tiles<'a>(spans: impl Iterator<Item = SpanView<'a>>) -> Vec<QueryTile<'a>> {
    let cut = |span: SpanView<'a>| {
        (0..span.len).step_by(TILE).map(move |first| QueryTile {
            span,
            first,
            len: TILE.min(span.len - first),
        })
    };
    spans.flat_map(cut).collect()
}

/// Computes the attention of every token of the batch. The first `heads · head` numbers of a row of `queries` are the
/// queries. `out` gets rows of `heads · head`.
pub fn attend<E: Element>(
    tiles: &[QueryTile],
    queries: &Matrix,
    kv: &LayerKv<E>,
    geometry: &Geometry,
    out: &mut Matrix,
) {
    let width = geometry.heads * geometry.head;
    out.reshape(queries.rows(), width);
    let shared = SharedRows::new(out.data_mut(), width);
    pool::for_each(tiles.len() * geometry.kv_heads, |unit| {
        thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
        // A head's keys and values lie together, and sequences may share them. So all tiles read them one after the other.
        let (head, number) = (unit / tiles.len(), unit % tiles.len());
        let tile = &tiles[number];
        SCRATCH.with_borrow_mut(|scratch| {
            let group = geometry.heads / geometry.kv_heads;
            let (column, len) = (head * group * geometry.head, group * geometry.head);
            scratch.start(tile, geometry, |token| &queries.row(token)[column..][..len]);
            if let Some(next) = tiles.get(number + 1) {
                let seen = next.seen(geometry);
                let cells = &next.span.cells[seen.start..seen.end.min(seen.start + BLOCK)];
                ask_for(kv.keys(head), cells, geometry.head);
            }
            let (keys, values) = (kv.keys(head), kv.values(head));
            dispatch!(Level::new(), simd => scratch.run(simd, tile, geometry, keys, values));
            for query in 0..tile.len {
                // SAFETY: each token and head belongs to one unit.
                let to = unsafe { shared.part(tile.token(query), column, len) };
                to.copy_from_slice(&scratch.sums[query * len..][..len]);
            }
        });
    });
}

impl QueryTile<'_> {
    /// Number of a query in the batch.
    fn token(&self, query: usize) -> usize {
        self.span.first + self.first + query
    }

    fn position(&self, query: usize) -> usize {
        self.span.position() + self.first + query
    }

    /// Positions that at least one of the tile's queries sees.
    fn seen(&self, geometry: &Geometry) -> Range<usize> {
        geometry.first_seen(self.position(0))..self.position(self.len)
    }
}

impl Geometry {
    /// The first position that a query sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window as usize))
    }
}

/// Scratch memory of one thread. A row is one query of the tile for one of the heads that share a KV head.
#[derive(Default)]
struct Scratch {
    /// Scaled queries: `[rows, head]`.
    queries: Vec<f32>,
    /// The block's keys as columns, `[head, BLOCK]`, and later its values: `[BLOCK, head]`.
    gathered: Vec<f32>,
    /// Products of queries and keys, and later their softmax weights: `[rows, BLOCK]`.
    scores: Vec<f32>,
    /// Weighted sums of the values so far: `[rows, head]`.
    sums: Vec<f32>,
    /// The largest product so far, and the sum of the weights relative to it: each `[rows]`.
    largest: Vec<f32>,
    weights: Vec<f32>,
}

impl Scratch {
    fn start<'a>(
        &mut self,
        tile: &QueryTile,
        geometry: &Geometry,
        row: impl Fn(usize) -> &'a [f32],
    ) {
        self.queries.clear();
        for query in 0..tile.len {
            let row = row(tile.token(query));
            self.queries.extend(row.iter().map(|x| x * geometry.scale));
        }
        let rows = self.queries.len() / geometry.head;
        reset(&mut self.sums, self.queries.len(), 0.0);
        reset(&mut self.largest, rows, f32::NEG_INFINITY);
        reset(&mut self.weights, rows, 0.0);
        self.gathered.resize(BLOCK * geometry.head, 0.0);
        self.scores.resize(BLOCK * rows, 0.0);
    }

    #[inline(always)]
    fn run<S: Simd, E: Element>(
        &mut self,
        simd: S,
        tile: &QueryTile,
        geometry: &Geometry,
        keys: &[E],
        values: &[E],
    ) {
        let (head, seen) = (geometry.head, tile.seen(geometry));
        let cells = |start| &tile.span.cells[seen.end.min(start)..seen.end.min(start + BLOCK)];
        // Blocks begin at the same positions wherever a window begins.
        for start in (seen.start / BLOCK * BLOCK..seen.end).step_by(BLOCK) {
            let (cells, next) = (cells(start), cells(start + BLOCK));
            ask_for(values, cells, head);
            products::gather_columns(simd, keys, cells, head, &mut self.gathered);
            products::score(simd, &self.queries, &self.gathered, head, &mut self.scores);
            self.weigh(simd, start, tile, geometry);
            ask_for(keys, next, head);
            let gathered = &mut self.gathered[..cells.len() * head];
            products::gather(simd, values, cells, head, gathered);
            products::add_values(simd, &self.scores, gathered, head, &mut self.sums);
        }
        self.finish(head);
    }

    /// Turns products into softmax weights, relative to the largest product so far, and rescales the earlier sums
    /// accordingly.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S, start: usize, tile: &QueryTile, geometry: &Geometry) {
        let group = self.largest.len() / tile.len;
        let rows = self.scores.chunks_exact_mut(BLOCK);
        let sums = self.sums.chunks_exact_mut(geometry.head);
        let state = self.largest.iter_mut().zip(&mut self.weights);
        for (row, ((scores, sums), (largest, weight))) in rows.zip(sums).zip(state).enumerate() {
            let position = tile.position(row / group);
            let from = geometry
                .first_seen(position)
                .saturating_sub(start)
                .min(BLOCK);
            let to = (position + 1).saturating_sub(start).clamp(from, BLOCK);
            scores[..from].fill(0.0);
            scores[to..].fill(0.0);
            let seen = &mut scores[from..to];
            if seen.is_empty() {
                continue;
            }
            if let Some(cap) = geometry.soft_cap {
                soft_cap(simd, seen, cap);
            }
            let before = *largest;
            *largest = before.max(math::max(simd, seen));
            let added = math::exp_sum(simd, seen, *largest);
            // Before the first block there are no sums to rescale.
            let kept = if *weight == 0.0 {
                0.0
            } else {
                math::exp(f32x16::splat(simd, before - *largest))[0]
            };
            *weight = *weight * kept + added;
            if kept != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= kept);
            }
        }
    }

    #[inline(always)]
    fn finish(&mut self, head: usize) {
        for (sums, weight) in self.sums.chunks_exact_mut(head).zip(&self.weights) {
            sums.iter_mut().for_each(|sum| *sum /= weight);
        }
    }
}

fn reset(numbers: &mut Vec<f32>, len: usize, to: f32) {
    numbers.clear();
    numbers.resize(len, to);
}

/// Prefetches the rows of some cells.
fn ask_for<E: Element>(from: &[E], cells: &[u32], head: usize) {
    for run in cells.chunk_by(|a, b| a + 1 == *b) {
        let rows = &from[run[0] as usize * head..][..run.len() * head];
        prefetch(rows.as_ptr(), size_of_val(rows));
    }
}

#[cfg(test)]
mod tests;
