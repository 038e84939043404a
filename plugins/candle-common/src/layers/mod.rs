//! Layers as data: their weights, in the form of the hardware that computes with them.

mod hardware;
mod linear;
mod norm;

pub use hardware::{Hardware, WeightMatrix};
pub use linear::Linear;
pub use norm::Norm;
