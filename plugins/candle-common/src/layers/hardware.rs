//! The hardware that holds a model's weights.

use candle_core::quantized::QTensor;
use tenon_plugin_api::Result;

use crate::kernels::memory::Arena;

/// The form of a decoder's weights on some hardware, and their conversion to it.
///
/// Unless something else is stated, an error is `NO_MEMORY`, or `INTERNAL` for errors of candle.
pub trait Hardware: Sized + 'static {
    /// A matrix of weights.
    type Weights: WeightMatrix;
    /// The weights of a norm, or a bias.
    type Vector: Send + Sync;

    /// # Errors
    /// `INVALID` if `matrix` is not a matrix.
    fn weights(&self, matrix: QTensor, arena: &Arena) -> Result<Self::Weights>;
    fn vector(&self, numbers: Vec<f32>) -> Result<Self::Vector>;
}

/// Weights of one type: `[outputs, inputs]`.
pub trait WeightMatrix: Send + Sync {
    fn outputs(&self) -> usize;
    fn inputs(&self) -> usize;
    fn bytes(&self) -> usize;
    /// Whether candle's own kernels compute with these weights on the CPU. Those have threads of their own, whose number
    /// never changes.
    fn uses_candles_threads(&self) -> bool;
}
