//! AVX2 with FMA and F16C: a register has half a vector. With AVX-VNNI products are summed in 32 bits. Without it they are
//! summed in 16 bits for as long as they fit.

use std::{arch::x86_64::*, ops::Range};

use super::{Format, Instructions, Product, align_stack};
use crate::kernels::quantized::packed::{Layout, Line, QUAD, QUADS};

struct Avx2<const VNNI: bool>;

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

pub fn has_vnni() -> bool {
    is_available() && is_x86_feature_detected!("avxvnni")
}

/// Without VNNI, 8-bit numbers are converted to signed ones, so that the sum of two products fits into 16 bits.
pub fn center(layout: Layout) -> i32 {
    match layout.bits {
        8 => 0,
        _ => layout.center,
    }
}

/// # Safety
/// As for [`super::Product`], on a CPU where it [`is_available`].
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run<F: Format>(product: &Product, strips: Range<usize>) {
    align_stack();
    // SAFETY: the caller promises it.
    unsafe { product.strips::<Avx2<false>, F, 2>(strips) }
}

/// # Safety
/// As for [`super::Product`], on a CPU that [`has_vnni`].
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub unsafe fn run_vnni<F: Format>(product: &Product, strips: Range<usize>) {
    align_stack();
    // SAFETY: the caller promises it.
    unsafe { product.strips::<Avx2<true>, F, 2>(strips) }
}

// SAFETY of all: callers have the instructions, and pass valid pointers.
impl<const VNNI: bool> Instructions for Avx2<VNNI> {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    type Floats = __m256;
    type Wholes = __m256i;
    type Bytes = __m256i;
    /// Two sums of 16 bits for each output, or one of 32 bits with VNNI.
    type Sums = __m256i;

    #[inline(always)]
    fn room(layout: Layout) -> usize {
        if VNNI {
            return QUADS;
        }
        let largest = match layout.bits {
            8 => 128,
            bits => (1 << bits) - 1,
        };
        // A sum gets two products of each quad, with inputs from -127 to 127.
        i16::MAX as usize / (2 * 127 * largest)
    }

    #[inline(always)]
    unsafe fn numbers(layout: Layout, lines: *const Line, quad: usize, lane: usize) -> __m256i {
        unsafe {
            if layout.bits == 8 {
                let numbers = half(lines.add(quad), lane);
                return match VNNI {
                    true => numbers,
                    false => _mm256_xor_si256(numbers, _mm256_set1_epi8(i8::MIN)),
                };
            }
            let both = half(lines.add(quad / 2), lane);
            let nibbles = match quad % 2 {
                0 => both,
                _ => _mm256_srli_epi16::<4>(both),
            };
            let numbers = _mm256_and_si256(nibbles, _mm256_set1_epi8(15));
            let Some((line, bit)) = layout.high(quad) else {
                return numbers;
            };
            let high = half(lines.add(line), lane);
            let high = match bit {
                0..4 => _mm256_sll_epi16(high, _mm_cvtsi32_si128(4 - bit as i32)),
                _ => _mm256_srl_epi16(high, _mm_cvtsi32_si128(bit as i32 - 4)),
            };
            let mask = _mm256_set1_epi8((layout.high_mask() << 4) as i8);
            _mm256_or_si256(numbers, _mm256_and_si256(high, mask))
        }
    }

    #[inline(always)]
    unsafe fn begin(total: __m256i) -> __m256i {
        match VNNI {
            true => total,
            false => unsafe { _mm256_setzero_si256() },
        }
    }

    #[inline(always)]
    unsafe fn add(layout: Layout, sums: __m256i, numbers: __m256i, input: i32) -> __m256i {
        unsafe {
            let input = _mm256_set1_epi32(input);
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sums, numbers, input);
            }
            let products = match layout.bits {
                8 => {
                    let input = _mm256_sign_epi8(input, numbers);
                    _mm256_maddubs_epi16(_mm256_abs_epi8(numbers), input)
                }
                _ => _mm256_maddubs_epi16(numbers, input),
            };
            _mm256_add_epi16(sums, products)
        }
    }

    #[inline(always)]
    unsafe fn end(total: __m256i, sums: __m256i) -> __m256i {
        if VNNI {
            return sums;
        }
        unsafe { _mm256_add_epi32(total, _mm256_madd_epi16(sums, _mm256_set1_epi16(1))) }
    }

    #[inline(always)]
    unsafe fn add_pairs(total: __m256i, pairs: *const u8, input: i32) -> __m256i {
        unsafe {
            let pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128(pairs.cast()));
            let products = _mm256_madd_epi16(pairs, _mm256_set1_epi32(input));
            _mm256_add_epi32(total, products)
        }
    }

    #[inline(always)]
    unsafe fn whole(x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn float(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn widen(x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn halves(at: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, outputs: usize, floats: __m256) {
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(outputs as i32), lanes);
            _mm256_maskstore_ps(to, mask, floats);
        }
    }
}

/// The part of a line that has the outputs from `lane` on.
#[inline(always)]
unsafe fn half(line: *const Line, lane: usize) -> __m256i {
    // SAFETY: the caller has the instructions and the line.
    unsafe { _mm256_load_si256(line.cast::<u8>().add(lane * QUAD).cast()) }
}
