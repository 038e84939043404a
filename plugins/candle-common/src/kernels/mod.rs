//! Kernels on slices: what candle has no kernel for on CPUs, or only one that makes a new tensor on one thread.

pub mod attention;
pub mod elementwise;
pub mod floats;
pub mod gemm;
pub mod math;
pub mod memory;
pub mod prefetch;
pub mod quantized;
