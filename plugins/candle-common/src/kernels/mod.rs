//! Kernels on slices, for what candle does on CPUs not at all, or only with a new tensor on one thread.

pub mod attention;
pub mod element;
pub mod elementwise;
pub mod floats;
pub mod gemm;
pub mod math;
pub mod memory;
pub mod prefetch;
pub mod quantized;
pub mod sums;
