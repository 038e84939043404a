//! Attention over the KV pool, where its keys and values are.
//!
//! A *tile* is some neighbouring queries of one sequence. For each tile and each head of keys and values, the sequence's keys
//! and values pass by in blocks, and a running softmax keeps what was seen: nothing is as long as the sequence.

mod products;

use std::{cell::RefCell, ops::Range};

use super::{elementwise::soft_cap, math, prefetch::prefetch};
use crate::{
    kv::{Element, LayerKv},
    matrix::Matrix,
    pool::{self, SharedRows},
};
use products::BLOCK;

/// Most queries in a tile.
const TILE: usize = 32;

/// A sequence's part of a batch.
#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    /// Its first token in the batch.
    pub first: usize,
    /// How many of its tokens are in the batch.
    pub len: usize,
    /// Places of all of the sequence's keys and values, those of the batch last.
    pub cells: &'a [u32],
}

impl SpanView<'_> {
    /// Position of its first token in the batch.
    pub fn position(&self) -> usize {
        self.cells.len() - self.len
    }
}

/// What does not depend on the batch.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub soft_cap: Option<f32>,
    /// How many positions a query sees, its own included. None: all before it.
    pub window: Option<u32>,
}

/// Neighbouring queries of one span.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    span: SpanView<'a>,
    /// Its first query, from the span's first on.
    first: usize,
    len: usize,
}

/// Cuts spans into tiles.
pub fn tiles<'a>(spans: impl Iterator<Item = SpanView<'a>>) -> Vec<Tile<'a>> {
    let cut = |span: SpanView<'a>| {
        (0..span.len).step_by(TILE).map(move |first| Tile {
            span,
            first,
            len: TILE.min(span.len - first),
        })
    };
    spans.flat_map(cut).collect()
}

/// Computes the attention of every token of the batch. Queries are the first `heads · head` numbers of a row of `queries`;
/// `out` gets rows of `heads · head`.
pub fn attend<E: Element>(
    tiles: &[Tile],
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
        // A head's keys and values lie together, and sequences may share them: all tiles come to them one after the other.
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
            scratch.run(tile, geometry, kv.keys(head), kv.values(head));
            scratch.finish(geometry.head);
            for query in 0..tile.len {
                // SAFETY: each token and head belongs to one unit.
                let to = unsafe { shared.part(tile.token(query), column, len) };
                to.copy_from_slice(&scratch.sums[query * len..][..len]);
            }
        });
    });
}

impl Tile<'_> {
    /// Number of a query in the batch.
    fn token(&self, query: usize) -> usize {
        self.span.first + self.first + query
    }

    fn position(&self, query: usize) -> usize {
        self.span.position() + self.first + query
    }

    /// Positions that some of its queries see.
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

/// A thread's own memory. Rows are those of the tile's queries for the heads that share keys and values.
#[derive(Default)]
struct Scratch {
    /// Scaled: `[rows, head]`.
    queries: Vec<f32>,
    /// The block's keys as columns, `[head, BLOCK]`, then its values: `[BLOCK, head]`.
    gathered: Vec<f32>,
    /// Products of queries and keys, then their weights: `[rows, BLOCK]`.
    scores: Vec<f32>,
    /// Sums of values by their weights so far: `[rows, head]`.
    sums: Vec<f32>,
    /// The largest product so far, and the sum of weights relative to it: `[rows]`.
    largest: Vec<f32>,
    weights: Vec<f32>,
}

impl Scratch {
    fn start<'a>(&mut self, tile: &Tile, geometry: &Geometry, row: impl Fn(usize) -> &'a [f32]) {
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

    fn run<E: Element>(&mut self, tile: &Tile, geometry: &Geometry, keys: &[E], values: &[E]) {
        let (head, seen) = (geometry.head, tile.seen(geometry));
        let cells = |start| &tile.span.cells[seen.end.min(start)..seen.end.min(start + BLOCK)];
        // Wherever a window begins, blocks are the same.
        for start in (seen.start / BLOCK * BLOCK..seen.end).step_by(BLOCK) {
            let (cells, next) = (cells(start), cells(start + BLOCK));
            ask_for(values, cells, head);
            products::gather_columns(keys, cells, head, &mut self.gathered);
            products::score(&self.queries, &self.gathered, head, &mut self.scores);
            self.weigh(start, tile, geometry);
            ask_for(keys, next, head);
            let gathered = &mut self.gathered[..cells.len() * head];
            products::gather(values, cells, head, gathered);
            products::add_values(&self.scores, gathered, head, &mut self.sums);
        }
    }

    /// Makes weights of the products, relative to the largest so far, and brings what was summed before to the same scale.
    fn weigh(&mut self, start: usize, tile: &Tile, geometry: &Geometry) {
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
                soft_cap(seen, cap);
            }
            let before = *largest;
            *largest = before.max(math::max(seen));
            let added = math::exp_sum(seen, *largest);
            // The first block has nothing to bring along.
            let kept = if *weight == 0.0 {
                0.0
            } else {
                math::exp(before - *largest)
            };
            *weight = *weight * kept + added;
            if kept != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= kept);
            }
        }
    }

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

/// Has the rows of some cells come from memory meanwhile.
fn ask_for<E: Element>(from: &[E], cells: &[u32], head: usize) {
    for run in cells.chunk_by(|a, b| a + 1 == *b) {
        let rows = &from[run[0] as usize * head..][..run.len() * head];
        prefetch(rows.as_ptr(), size_of_val(rows));
    }
}

#[cfg(test)]
mod tests;
