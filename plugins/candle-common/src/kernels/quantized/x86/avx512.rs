//! AVX-512 with VNNI: a register has a whole vector, and products are summed in 32 bits.

use std::{arch::x86_64::*, ops::Range};

use super::{Format, Instructions, Product, align_stack};
use crate::kernels::quantized::packed::{LANES, Layout, Line, QUADS};

struct Avx512;

pub fn is_available() -> bool {
    super::avx2::is_available()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// # Safety
/// As for [`super::Product`], on a CPU where it [`is_available`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni,avx2,fma,f16c")]
pub unsafe fn run<F: Format>(product: &Product, strips: Range<usize>) {
    align_stack();
    // SAFETY: the caller promises it.
    unsafe { product.strips::<Avx512, F, 1>(strips) }
}

// SAFETY of all: callers have the instructions, and pass valid pointers.
impl Instructions for Avx512 {
    const LANES: usize = LANES;
    const ROWS: usize = 8;
    type Floats = __m512;
    type Wholes = __m512i;
    type Bytes = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn room(_: Layout) -> usize {
        QUADS
    }

    #[inline(always)]
    unsafe fn numbers(layout: Layout, lines: *const Line, quad: usize, _: usize) -> __m512i {
        unsafe {
            if layout.bits == 8 {
                return _mm512_load_si512(lines.add(quad).cast());
            }
            let both = _mm512_load_si512(lines.add(quad / 2).cast());
            let nibbles = match quad % 2 {
                0 => both,
                _ => _mm512_srli_epi16::<4>(both),
            };
            let numbers = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
            let Some((line, bit)) = layout.high(quad) else {
                return numbers;
            };
            let high = _mm512_load_si512(lines.add(line).cast());
            let high = match bit {
                0..4 => _mm512_sll_epi16(high, _mm_cvtsi32_si128(4 - bit as i32)),
                _ => _mm512_srl_epi16(high, _mm_cvtsi32_si128(bit as i32 - 4)),
            };
            let mask = _mm512_set1_epi8((layout.high_mask() << 4) as i8);
            _mm512_or_si512(numbers, _mm512_and_si512(high, mask))
        }
    }

    #[inline(always)]
    unsafe fn begin(total: __m512i) -> __m512i {
        total
    }

    #[inline(always)]
    unsafe fn add(_: Layout, sums: __m512i, numbers: __m512i, input: i32) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, numbers, _mm512_set1_epi32(input)) }
    }

    #[inline(always)]
    unsafe fn end(_: __m512i, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    unsafe fn add_pairs(total: __m512i, pairs: *const u8, input: i32) -> __m512i {
        unsafe {
            let pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(pairs.cast()));
            _mm512_dpwssd_epi32(total, pairs, _mm512_set1_epi32(input))
        }
    }

    #[inline(always)]
    unsafe fn whole(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn float(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn widen(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn halves(at: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, outputs: usize, floats: __m512) {
        let mask = ((1u32 << outputs) - 1) as u16;
        unsafe { _mm512_mask_storeu_ps(to, mask, floats) }
    }
}
