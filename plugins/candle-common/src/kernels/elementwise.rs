//! What is done to each row of activations alone.

use super::math;
use crate::{matrix::Matrix, pool};

/// What the gate of an MLP goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// The form with a hyperbolic tangent.
    Gelu,
}

/// Root mean square normalization of one row in place.
#[inline]
pub fn rms_norm_row(row: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = rms_scale(row, epsilon);
    for (x, w) in row.iter_mut().zip(weight) {
        *x *= scale * w;
    }
}

/// Root mean square normalization of every row of `from`, into `to`.
pub fn rms_norm(from: &Matrix, weight: &[f32], epsilon: f32, to: &mut Matrix) {
    let width = from.width();
    to.reshape(from.rows(), width);
    pool::for_each_row(to.data_mut(), width, |row, to| {
        let from = from.row(row);
        let scale = rms_scale(from, epsilon);
        for ((to, x), w) in to.iter_mut().zip(from).zip(weight) {
            *to = x * scale * w;
        }
    });
}

/// Each row of `gate_up` is a gate and, behind it, what it lets through: `to = activation(gate) · up`.
pub fn gate(gate_up: &Matrix, activation: Activation, to: &mut Matrix) {
    let width = gate_up.width() / 2;
    to.reshape(gate_up.rows(), width);
    pool::for_each_row(to.data_mut(), width, |row, to| {
        let (gate, up) = gate_up.row(row).split_at(width);
        match activation {
            Activation::Silu => multiply(to, gate, up, math::silu),
            Activation::Gelu => multiply(to, gate, up, math::gelu),
        }
    });
}

/// `to += from`
pub fn add(to: &mut Matrix, from: &Matrix) {
    for (to, from) in to.data_mut().iter_mut().zip(from.data()) {
        *to += from;
    }
}

/// `cap · tanh(x / cap)`: keeps numbers within `cap`, and small ones as they are.
#[inline]
pub fn soft_cap(numbers: &mut [f32], cap: f32) {
    for x in numbers {
        *x = cap * math::tanh(*x / cap);
    }
}

#[inline]
fn rms_scale(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (math::dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

#[inline(always)]
fn multiply(to: &mut [f32], gate: &[f32], up: &[f32], activation: impl Fn(f32) -> f32) {
    for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
        *to = activation(*gate) * up;
    }
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
            let mut alone = from.row(row).to_vec();
            rms_norm_row(&mut alone, &[2.0; 6], 0.0);
            assert_eq!(alone, to.row(row));
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
