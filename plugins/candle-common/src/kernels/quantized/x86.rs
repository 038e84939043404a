//! The kernel for AVX-512 VNNI.

use std::{arch::x86_64::*, ops::Range};

use candle_core::quantized::GgmlDType;

use super::{
    GROUP, RoundedRows,
    packed::{LANES, Layout, Line, Packed, QUAD, QUADS, STRIP, VECTORS},
};
use crate::kernels::gemm::Target;

/// Lines between what is read and what is asked for, so that it is there in time: measured.
const AHEAD: usize = 256;

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// # Safety
/// As for [`super::multiply`], on a CPU where it [`is_available`].
pub unsafe fn multiply(
    input: &RoundedRows,
    weights: &Packed,
    strips: Range<usize>,
    target: Target,
) {
    let product = Product {
        input,
        weights,
        target,
    };
    // SAFETY: the caller promises it.
    unsafe {
        match weights.kind() {
            GgmlDType::Q8_0 => run::<Q8_0>(&product, strips),
            GgmlDType::Q4_0 => run::<Q4_0>(&product, strips),
            GgmlDType::Q4_1 => run::<Q4_1>(&product, strips),
            GgmlDType::Q5_0 => run::<Q5_0>(&product, strips),
            GgmlDType::Q5_1 => run::<Q5_1>(&product, strips),
            GgmlDType::Q4K => run::<Q4K>(&product, strips),
            GgmlDType::Q5K => run::<Q5K>(&product, strips),
            GgmlDType::Q6K => run::<Q6K>(&product, strips),
            other => unreachable!("there is no kernel for {other:?}"),
        }
    }
}

/// A type, for code of its own.
trait Format {
    const LAYOUT: Layout;
}

macro_rules! formats {
    ($($kind:ident),*) => {
        $(
            struct $kind;

            impl Format for $kind {
                const LAYOUT: Layout = match Layout::of(GgmlDType::$kind) {
                    Some(layout) => layout,
                    None => unreachable!(),
                };
            }
        )*
    };
}

formats!(Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4K, Q5K, Q6K);

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn run<F: Format>(product: &Product, strips: Range<usize>) {
    let rows = product.input.count();
    for strip in strips {
        let mut row = 0;
        // SAFETY: tiles are within the rows and strips that there are.
        unsafe {
            while row + 6 <= rows {
                product.tile::<F, 6>(row, strip);
                row += 6;
            }
            match rows - row {
                1 => product.tile::<F, 1>(row, strip),
                2 => product.tile::<F, 2>(row, strip),
                3 => product.tile::<F, 3>(row, strip),
                4 => product.tile::<F, 4>(row, strip),
                5 => product.tile::<F, 5>(row, strip),
                _ => {}
            }
        }
    }
}

struct Product<'a> {
    input: &'a RoundedRows,
    weights: &'a Packed,
    target: Target,
}

impl Product<'_> {
    /// `R` rows of input from `row` on, with the outputs of a strip: all sums are in registers.
    #[inline(always)]
    unsafe fn tile<F: Format, const R: usize>(&self, row: usize, strip: usize) {
        let layout = F::LAYOUT;
        let groups = self.input.groups;
        let lines = self.weights.lines(strip).as_ptr();
        let scales = self.weights.scales(strip).as_ptr();
        // SAFETY: the weights have the strip, and the input the rows and groups.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); R]; VECTORS];
            for group in 0..groups {
                let (block, own) = (group / layout.groups, group % layout.groups);
                let scales = scales.add(block * VECTORS * layout.scale_bytes());
                let lines = lines.add(group * VECTORS * layout.lines());
                prefetch(lines, VECTORS * layout.lines());
                for part in 0..layout.parts {
                    let products = self.products::<F, R>(lines, row, group, part);
                    for (v, (sums, products)) in sums.iter_mut().zip(products).enumerate() {
                        let scales = scales.add(v * layout.scale_bytes());
                        let scale = scale::<F>(scales, own * layout.parts + part);
                        for (r, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
                            let input =
                                *self.input.scales.get_unchecked((row + r) * groups + group);
                            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(input));
                            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), scale, *sum);
                        }
                    }
                }
                if layout.has_offset {
                    for (v, sums) in sums.iter_mut().enumerate() {
                        let offset = offset::<F>(scales.add(v * layout.scale_bytes()), own);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let input = *self.input.sums.get_unchecked((row + r) * groups + group);
                            *sum = _mm512_fmadd_ps(offset, _mm512_set1_ps(input), *sum);
                        }
                    }
                }
            }
            self.store(&sums, row, strip);
        }
    }

    /// Of a part of a group, in whole numbers.
    #[inline(always)]
    unsafe fn products<F: Format, const R: usize>(
        &self,
        lines: *const Line,
        row: usize,
        group: usize,
        part: usize,
    ) -> [[__m512i; R]; VECTORS] {
        let layout = F::LAYOUT;
        let groups = self.input.groups;
        // SAFETY: as above.
        unsafe {
            let mut products = [[_mm512_setzero_si512(); R]; VECTORS];
            if layout.center != 0 {
                for r in 0..R {
                    let at = ((row + r) * groups + group) * 2;
                    let halves = &self.input.halves;
                    let sum = match layout.parts {
                        1 => halves.get_unchecked(at) + halves.get_unchecked(at + 1),
                        _ => *halves.get_unchecked(at + part),
                    };
                    for product in &mut products {
                        product[r] = _mm512_set1_epi32(-layout.center * sum);
                    }
                }
            }
            let quads = QUADS / layout.parts;
            for quad in part * quads..(part + 1) * quads {
                let numbers: [_; VECTORS] =
                    std::array::from_fn(|v| numbers::<F>(lines.add(v * layout.lines()), quad));
                for r in 0..R {
                    let at = ((row + r) * groups + group) * GROUP + quad * QUAD;
                    let input = self.input.bytes.as_ptr().add(at).cast::<i32>();
                    let input = _mm512_set1_epi32(input.read_unaligned());
                    for (products, numbers) in products.iter_mut().zip(numbers) {
                        products[r] = _mm512_dpbusd_epi32(products[r], numbers, input);
                    }
                }
            }
            products
        }
    }

    #[inline(always)]
    unsafe fn store<const R: usize>(
        &self,
        sums: &[[__m512; R]; VECTORS],
        row: usize,
        strip: usize,
    ) {
        for (v, sums) in sums.iter().enumerate() {
            let first = strip * STRIP + v * LANES;
            let outputs = self.weights.outputs().saturating_sub(first).min(LANES);
            let mask = ((1u32 << outputs) - 1) as u16;
            for (r, sum) in sums.iter().enumerate() {
                let at = (row + r) * self.target.stride + first;
                // SAFETY: the target has the rows, and nothing is written beyond the last output.
                unsafe { _mm512_mask_storeu_ps(self.target.start.wrapping_add(at), mask, *sum) };
            }
        }
    }
}

/// Asks for lines that are read soon, into the second cache.
#[inline(always)]
unsafe fn prefetch(lines: *const Line, count: usize) {
    for line in 0..count {
        // SAFETY: this reads nothing, and may ask for what does not exist.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(lines.wrapping_add(AHEAD + line).cast()) };
    }
}

/// Four numbers of each output.
#[inline(always)]
unsafe fn numbers<F: Format>(lines: *const Line, quad: usize) -> __m512i {
    // SAFETY: the caller has the lines of a group there.
    unsafe {
        if F::LAYOUT.bits == 8 {
            return _mm512_load_si512(lines.add(quad).cast());
        }
        let both = _mm512_load_si512(lines.add(quad / 2).cast());
        let nibbles = match quad % 2 {
            0 => both,
            _ => _mm512_srli_epi16::<4>(both),
        };
        let mut numbers = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
        for plane in 0..F::LAYOUT.bits - 4 {
            let bits = lines.add(QUADS / 2 + plane).cast::<u64>().add(quad);
            let value = _mm512_set1_epi8(16 << plane);
            numbers = _mm512_mask_add_epi8(numbers, *bits, numbers, value);
        }
        numbers
    }
}

/// What the products of a part are to be multiplied with.
#[inline(always)]
unsafe fn scale<F: Format>(scales: *const u8, part: usize) -> __m512 {
    // SAFETY: the caller has the scales of a block there.
    unsafe {
        let scale = halves(scales);
        if F::LAYOUT.groups == 1 {
            return scale;
        }
        let own = bytes(scales.add(F::LAYOUT.own_scales() + part * LANES));
        _mm512_mul_ps(scale, own)
    }
}

/// What the sum of a group's inputs is to be multiplied with.
#[inline(always)]
unsafe fn offset<F: Format>(scales: *const u8, group: usize) -> __m512 {
    // SAFETY: the caller has the scales of a block there.
    unsafe {
        let offset = halves(scales.add(2 * LANES));
        if F::LAYOUT.groups == 1 {
            return offset;
        }
        let own = bytes(scales.add(F::LAYOUT.own_offsets() + group * LANES));
        _mm512_mul_ps(offset, own)
    }
}

/// Numbers of 16 bits.
#[inline(always)]
unsafe fn halves(at: *const u8) -> __m512 {
    // SAFETY: the caller has one for each output there.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
}

/// Whole numbers of 8 bits.
#[inline(always)]
unsafe fn bytes(at: *const u8) -> __m512 {
    // SAFETY: the caller has one for each output there.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
}
