//! Operations on each row of activations alone.

use fearless_simd::{Level, Simd, dispatch, f32x16, prelude::*};
use tenon_plugin_api::vectors::padded;

use super::math;
use crate::{matrix::Matrix, pool};

/// Activation function of an MLP's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// The approximation with a hyperbolic tangent.
    Gelu,
}

impl Activation {
    #[inline(always)]
    fn of<S: Simd>(self, gate: f32x16<S>) -> f32x16<S> {
        match self {
            Self::Silu => math::silu(gate),
            Self::Gelu => math::gelu(gate),
        }
    }
}

/// Root mean square normalization of one row in place.
#[inline(always)]
pub fn rms_norm_row<S: Simd>(simd: S, row: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = rms_scale(simd, row, epsilon);
    for (x, w) in row.iter_mut().zip(weight) {
        *x *= scale * w;
    }
}

/// Normalizes every row in place.
pub fn rms_norm_rows(rows: &mut Matrix, weight: &[f32], epsilon: f32) {
    let width = rows.width();
    pool::for_each_row(rows.data_mut(), width, |_, row| {
        dispatch!(Level::new(), simd => rms_norm_row(simd, row, weight, epsilon));
    });
}

/// Root mean square normalization of every row of `from`, into `to`.
pub fn rms_norm(from: &Matrix, weight: &[f32], epsilon: f32, to: &mut Matrix) {
    #[inline(always)]
    fn row<S: Simd>(simd: S, from: &[f32], weight: &[f32], epsilon: f32, to: &mut [f32]) {
        let scale = rms_scale(simd, from, epsilon);
        for ((to, x), w) in to.iter_mut().zip(from).zip(weight) {
            *to = x * scale * w;
        }
    }

    let width = from.width();
    to.reshape(from.rows(), width);
    pool::for_each_row(to.data_mut(), width, |number, to| {
        let from = from.row(number);
        dispatch!(Level::new(), simd => row(simd, from, weight, epsilon, to));
    });
}

/// Each row of `gate_up` has the gate first and then the up projection. Computes `to = activation(gate) · up`.
pub fn gate(gate_up: &Matrix, activation: Activation, to: &mut Matrix) {
    let width = gate_up.width() / 2;
    to.reshape(gate_up.rows(), width);
    pool::for_each_row(to.data_mut(), width, |row, to| {
        let (gate, up) = gate_up.row(row).split_at(width);
        dispatch!(Level::new(), simd => multiply(simd, to, gate, up, activation));
    });
}

/// `to += from`
pub fn add(to: &mut [f32], from: &[f32]) {
    dispatch!(Level::new(), _ => {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    });
}

/// Multiplies all numbers by `factor`.
pub fn scale(numbers: &mut [f32], factor: f32) {
    dispatch!(Level::new(), _ => numbers.iter_mut().for_each(|x| *x *= factor));
}

/// Applies [`soft_cap`] to every row.
pub fn soft_cap_rows(rows: &mut Matrix, cap: f32) {
    let width = rows.width();
    pool::for_each_row(rows.data_mut(), width, |_, row| {
        dispatch!(Level::new(), simd => soft_cap(simd, row, cap));
    });
}

/// `cap · tanh(x / cap)`: limits numbers to `cap`, and hardly changes small ones.
#[inline(always)]
pub fn soft_cap<S: Simd>(simd: S, numbers: &mut [f32], cap: f32) {
    math::map(
        simd,
        numbers,
        #[inline(always)]
        |x| math::tanh(x / cap) * cap,
    );
}

#[inline(always)]
fn rms_scale<S: Simd>(simd: S, row: &[f32], epsilon: f32) -> f32 {
    1.0 / (math::dot(simd, row, row) / row.len() as f32 + epsilon).sqrt()
}

#[inline(always)]
fn multiply<S: Simd>(simd: S, to: &mut [f32], gate: &[f32], up: &[f32], activation: Activation) {
    let (chunks, rest) = to.as_chunks_mut();
    let (gates, gate_rest) = gate.as_chunks();
    let (ups, up_rest) = up.as_chunks();
    for ((to, gate), up) in chunks.iter_mut().zip(gates).zip(ups) {
        let gate = activation.of(f32x16::load_array_ref(simd, gate));
        (gate * f32x16::load_array_ref(simd, up)).store_array(to);
    }
    let last = activation.of(padded(simd, gate_rest, 0.0)) * padded(simd, up_rest, 0.0);
    rest.copy_from_slice(&last.as_slice()[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_rows_have_the_weights_as_their_root_mean_square() {
        let from = Matrix::new((1..=12).map(|n| n as f32).collect(), 6);
        let mut to = Matrix::zeros(0, 6);
        rms_norm(&from, &[2.0; 6], 0.0, &mut to);
        for row in 0..2 {
            let square: f32 = to.row(row).iter().map(|x| x * x).sum();
            assert!((square / 6.0 - 4.0).abs() < 1e-5);
            let mut alone = Matrix::new(from.row(row).to_vec(), 6);
            rms_norm_rows(&mut alone, &[2.0; 6], 0.0);
            assert_eq!(alone.data(), to.row(row));
        }
    }

    #[test]
    fn gates_let_through_what_is_behind_them() {
        let gate_up = Matrix::new(vec![0.0, 20.0, 3.0, 4.0], 4);
        let mut to = Matrix::zeros(0, 2);
        for activation in [Activation::Silu, Activation::Gelu] {
            gate(&gate_up, activation, &mut to);
            assert_eq!(to.row(0)[0], 0.0);
            assert!((to.row(0)[1] - 80.0).abs() < 1e-4);
        }
    }
}
