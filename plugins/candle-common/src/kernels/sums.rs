//! The sums of several vectors' numbers at once.

use fearless_simd::{Level, Simd, f32x16};
use tenon_plugin_api::vectors;

/// The sum of each vector's numbers, with the same bits as [`vectors::sum`].
#[allow(clippy::needless_range_loop)] // A closure would be compiled without the CPU's instructions.
#[inline(always)]
pub fn sums<S: Simd, const N: usize>(simd: S, vectors: [f32x16<S>; N]) -> [f32; N] {
    let mut sums = [0.0; N];
    match simd.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) if N == 4 => {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| vectors[at].into());
            sums.copy_from_slice(&x86::four_sums(token, a, b, c, d));
        }
        _ => {
            for at in 0..N {
                sums[at] = vectors::sum(vectors[at]);
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, mem::transmute};

    fearless_simd::kernel!(
        /// Adds quarters of vectors, then the numbers of a quarter, and the halves of the vectors at the end.
        #[inline(always)]
        pub fn four_sums(token: Avx512, a: __m512, b: __m512, c: __m512, d: __m512) -> [f32; 4] {
            // The quarters of two vectors: the first and third of each, and the second and fourth.
            const ODD: i32 = 0b10_00_10_00;
            const EVEN: i32 = 0b11_01_11_01;
            let (odd, even) = (
                _mm512_shuffle_f32x4::<ODD>(a, b),
                _mm512_shuffle_f32x4::<EVEN>(a, b),
            );
            let ab = _mm512_add_ps(odd, even);
            let (odd, even) = (
                _mm512_shuffle_f32x4::<ODD>(c, d),
                _mm512_shuffle_f32x4::<EVEN>(c, d),
            );
            let cd = _mm512_add_ps(odd, even);
            let pairs = _mm512_add_ps(_mm512_unpacklo_ps(ab, cd), _mm512_unpackhi_ps(ab, cd));
            let halves = _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_00_11_10>(pairs));
            let other = _mm512_shuffle_f32x4::<0b10_11_00_01>(halves, halves);
            let wholes = _mm512_add_ps(halves, other);
            let ac = _mm512_castps512_ps128(wholes);
            let bd = _mm512_extractf32x4_ps::<2>(wholes);
            // SAFETY: every bit pattern is a valid number.
            unsafe { transmute(_mm_unpacklo_ps(ac, bd)) }
        }
    );
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use fearless_simd::{dispatch, prelude::*};

    use super::*;

    #[inline(always)]
    fn check<S: Simd, const N: usize>(simd: S) {
        let number = |at: usize| ((at * 7919) % 1009) as f32 / 504.5 - 1.0;
        let vectors: [_; N] = from_fn(|row| {
            let numbers = from_fn(|lane| number(row * 16 + lane));
            f32x16::load_array(simd, numbers)
        });
        let expected = vectors.map(|vector| vectors::sum(vector).to_bits());
        assert_eq!(sums(simd, vectors).map(f32::to_bits), expected);
    }

    #[test]
    fn sums_of_several_vectors_have_the_bits_of_each_alone() {
        for level in [Level::new(), Level::baseline()] {
            dispatch!(level, simd => check::<_, 4>(simd));
            dispatch!(level, simd => check::<_, 3>(simd));
        }
    }
}
