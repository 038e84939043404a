//! Layers as data: their weights, in the form that the computing hardware needs.

mod hardware;
mod linear;
mod norm;

pub use hardware::{Hardware, WeightMatrix};
pub use linear::Linear;
pub use norm::Norm;
