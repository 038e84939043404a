//! Compares the kernel with attention written in candle's own operations.

use candle_core::{D, Device, Tensor};
use half::f16;

use super::*;

const CELLS: usize = 700;

/// Pseudorandom numbers, the same in every run.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

/// Cells of a sequence: two runs and, between them, some cells in no order.
fn scattered(len: usize) -> Vec<u32> {
    let cell = |at: usize| match at {
        at if at < len / 3 => at,
        at if at < len / 2 => 400 + (at * 7) % 97,
        at => at + 100,
    };
    let mut cells: Vec<_> = (0..len).map(|at| cell(at) as u32).collect();
    let mut seen = std::collections::HashSet::new();
    let mut free = (0..CELLS as u32).rev();
    for cell in &mut cells {
        while !seen.insert(*cell) {
            *cell = free.next().unwrap();
        }
    }
    cells
}

/// The attention of one span by whole matrices: softmax(q · kᵀ) · v, one head after the other.
fn naive(
    span: &SpanView,
    queries: &Matrix,
    kv: &LayerKv<f32>,
    geometry: &Geometry,
) -> Vec<Vec<f32>> {
    let device = &Device::Cpu;
    let (head, total) = (geometry.head, span.cells.len());
    let rows = |from: &[f32]| {
        let rows: Vec<_> = span
            .cells
            .iter()
            .flat_map(|&c| from[c as usize * head..][..head].to_vec())
            .collect();
        Tensor::from_vec(rows, (total, head), device).unwrap()
    };
    let mut out = vec![Vec::new(); span.len];
    for number in 0..geometry.heads {
        let kv_head = number / (geometry.heads / geometry.kv_heads);
        let (keys, values) = (rows(kv.keys(kv_head)), rows(kv.values(kv_head)));
        let query: Vec<_> = (0..span.len)
            .flat_map(|at| queries.row(span.first + at)[number * head..][..head].to_vec())
            .collect();
        let query = Tensor::from_vec(query, (span.len, head), device).unwrap();
        let mut scores =
            (query.matmul(&keys.t().unwrap()).unwrap() * f64::from(geometry.scale)).unwrap();
        if let Some(cap) = geometry.soft_cap {
            let cap = f64::from(cap);
            scores = ((scores / cap).unwrap().tanh().unwrap() * cap).unwrap();
        }
        let mask: Vec<_> = (0..span.len)
            .flat_map(|at| {
                let position = span.position() + at;
                let first = geometry
                    .window
                    .map_or(0, |window| (position + 1).saturating_sub(window as usize));
                (0..total).map(move |key| match (first..=position).contains(&key) {
                    true => 0.0,
                    false => f32::NEG_INFINITY,
                })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (span.len, total), device).unwrap();
        let scores = (scores + mask).unwrap();
        let largest = scores.max_keepdim(D::Minus1).unwrap();
        let weights = scores.broadcast_sub(&largest).unwrap().exp().unwrap();
        let sums = weights.sum_keepdim(D::Minus1).unwrap();
        let result = weights
            .broadcast_div(&sums)
            .unwrap()
            .matmul(&values)
            .unwrap();
        for (out, row) in out.iter_mut().zip(result.to_vec2::<f32>().unwrap()) {
            out.extend(row);
        }
    }
    out
}

/// Compares the kernel with [`naive`], and checks that every token gets the same bits when it is computed alone.
fn check<E: Element>(geometry: Geometry, tolerance: f32) {
    let (head, kv_width) = (geometry.head, geometry.kv_heads * geometry.head);
    let mut exact = LayerKv::<f32>::new(geometry.kv_heads, CELLS, head).unwrap();
    let mut kv = LayerKv::<E>::new(geometry.kv_heads, CELLS, head).unwrap();
    for cell in 0..CELLS as u32 {
        let (keys, values) = (noise(kv_width, 2 * cell), noise(kv_width, 2 * cell + 1));
        exact.write(cell, &keys, &values);
        kv.write(cell, &keys, &values);
    }
    // A whole prompt, one token after many, a few drafts, one token alone, a chunk of a prompt.
    let lengths = [(150, 150), (1, 300), (5, 131), (1, 1), (70, 290)];
    let cells = lengths.map(|(_, total)| scattered(total));
    let mut first = 0;
    let spans: Vec<_> = lengths
        .iter()
        .zip(&cells)
        .map(|((len, _), cells)| {
            first += len;
            SpanView {
                first: first - len,
                len: *len,
                cells,
            }
        })
        .collect();
    // Each row has something else behind the queries.
    let width = geometry.heads * head + 3;
    let queries = Matrix::new(noise(first * width, 99), width);
    let attend = |spans: &[SpanView]| {
        let mut out = Matrix::zeros(0, 1);
        let tiles = tiles(spans.iter().copied());
        attend(&tiles, &queries, &kv, &geometry, &mut out);
        out
    };
    let out = attend(&spans);
    for span in &spans {
        for at in 0..span.len {
            let alone = SpanView {
                first: span.first + at,
                len: 1,
                cells: &span.cells[..=span.position() + at],
            };
            let row = alone.first;
            assert_eq!(
                attend(&[alone]).row(row),
                out.row(row),
                "{geometry:?}, {alone:?}"
            );
        }
        for (at, expected) in naive(span, &queries, &exact, &geometry).iter().enumerate() {
            let row = out.row(span.first + at);
            let apart = row
                .iter()
                .zip(expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(
                apart < tolerance,
                "{geometry:?}, {span:?}, token {at}: {apart} apart"
            );
        }
    }
}

const PLAIN: Geometry = Geometry {
    heads: 6,
    kv_heads: 2,
    head: 64,
    scale: 0.3,
    soft_cap: None,
    window: None,
};

#[test]
fn grouped_heads_give_what_whole_matrices_give() {
    check::<f32>(PLAIN, 1e-4);
    // Head sizes that no vector divides, and few rows.
    for head in [48, 20] {
        check::<f32>(
            Geometry {
                heads: 2,
                head,
                ..PLAIN
            },
            1e-4,
        );
    }
    check::<f32>(
        Geometry {
            heads: 12,
            kv_heads: 1,
            ..PLAIN
        },
        1e-4,
    );
}

#[test]
fn windows_and_caps_give_what_whole_matrices_give() {
    for window in [1, 7, 130, 1000] {
        check::<f32>(
            Geometry {
                window: Some(window),
                ..PLAIN
            },
            1e-4,
        );
    }
    check::<f32>(
        Geometry {
            soft_cap: Some(2.0),
            window: Some(60),
            ..PLAIN
        },
        1e-4,
    );
}

#[test]
fn half_precision_is_as_exact_as_its_numbers() {
    check::<f16>(PLAIN, 2e-3);
    check::<half::bf16>(PLAIN, 2e-2);
}
