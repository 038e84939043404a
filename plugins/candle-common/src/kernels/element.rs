//! Number formats of weights, keys and values, and their conversion from and to floats.

use bytemuck::Pod;
use fearless_simd::{Level, Simd, dispatch, f32x16, prelude::*};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use tenon_plugin_api::vectors::LANES;

/// A number format.
pub trait Element: Pod + Send + Sync {
    /// Converts a vector of numbers to floats.
    fn lanes<S: Simd>(simd: S, from: &[Self; LANES]) -> f32x16<S>;

    /// Converts one number to a float.
    fn to_float(self) -> f32;

    /// Rounds floats to this format.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// Converts numbers to as many floats.
    #[inline(always)]
    fn widen_with<S: Simd>(simd: S, from: &[Self], to: &mut [f32]) {
        let (chunks, rest) = from.as_chunks();
        let (to, to_rest) = to.as_chunks_mut();
        for (to, chunk) in to.iter_mut().zip(chunks) {
            Self::lanes(simd, chunk).store_array(to);
        }
        for (to, from) in to_rest.iter_mut().zip(rest) {
            *to = from.to_float();
        }
    }

    /// Like [`widen_with`](Self::widen_with), for callers that chose no instruction set.
    fn widen(from: &[Self], to: &mut [f32]) {
        dispatch!(Level::new(), simd => Self::widen_with(simd, from, to));
    }
}

impl Element for f32 {
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, from: &[Self; LANES]) -> f32x16<S> {
        f32x16::load_array_ref(simd, from)
    }

    #[inline(always)]
    fn to_float(self) -> f32 {
        self
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, from: &[Self; LANES]) -> f32x16<S> {
        let floats = match simd.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(token) => halves::with_avx512(token, from),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => halves::with_avx2(token, from),
            _ => from.map(Self::to_f32),
        };
        f32x16::load_array(simd, floats)
    }

    #[inline(always)]
    fn to_float(self) -> f32 {
        self.to_f32()
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    /// Does not use `half`, whose conversion checks each number for NaN.
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, from: &[Self; LANES]) -> f32x16<S> {
        f32x16::load_array(simd, from.map(Self::to_float))
    }

    #[inline(always)]
    fn to_float(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

/// The CPU's own conversion of whole vectors: `half` converts number by number.
#[cfg(target_arch = "x86_64")]
mod halves {
    use std::{arch::x86_64::*, mem::transmute};

    use super::{LANES, f16};

    fearless_simd::kernel!(
        #[inline(always)]
        pub fn with_avx512(token: Avx512, from: &[f16; LANES]) -> [f32; LANES] {
            // SAFETY: every bit pattern is a valid number, on both sides.
            unsafe { transmute(_mm512_cvtph_ps(transmute::<[f16; LANES], __m256i>(*from))) }
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub fn with_avx2(token: Avx2, from: &[f16; LANES]) -> [f32; LANES] {
            // SAFETY: as above.
            unsafe {
                let halves: [__m128i; 2] = transmute(*from);
                transmute(halves.map(|half| _mm256_cvtph_ps(half)))
            }
        }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<E: Element + PartialEq + std::fmt::Debug>(epsilon: f32) {
        let numbers: Vec<f32> = (0..37).map(|at| (at as f32 - 18.0) / 7.0).collect();
        let mut narrow = vec![E::zeroed(); numbers.len()];
        E::narrow(&numbers, &mut narrow);
        let expected: Vec<_> = narrow.iter().map(|number| number.to_float()).collect();
        for level in [Level::new(), Level::baseline()] {
            let mut wide = vec![0.0; numbers.len()];
            dispatch!(level, simd => E::widen_with(simd, &narrow, &mut wide));
            assert_eq!(wide, expected);
        }
        for (number, rounded) in numbers.iter().zip(expected) {
            assert!((number - rounded).abs() <= epsilon * number.abs());
        }
    }

    #[test]
    fn numbers_are_the_same_with_all_instructions() {
        check::<f32>(0.0);
        check::<f16>(1.0 / 2048.0);
        check::<bf16>(1.0 / 256.0);
    }
}
