//! Kernels on slices, for operations that candle lacks on CPUs, or that it computes on one thread and into a new tensor.

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

use fearless_simd::Level;

/// The kernels that this CPU gets, in words.
pub fn names() -> String {
    let floats = match Level::new() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Level::Sse4_2(_) => "SSE4.2",
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => "NEON",
        _ => "no vectors",
    };
    let quantized = quantized::best().map_or("candle's own, slow", quantized::Kernel::name);
    format!("quantized weights: {quantized}; floats: {floats}")
}
