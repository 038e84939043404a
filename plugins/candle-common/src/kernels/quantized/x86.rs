//! The kernel for AVX-512 VNNI.

use std::{arch::x86_64::*, ops::Range};

use candle_core::quantized::GgmlDType;

use super::{GROUP, RoundedRows};
use crate::kernels::gemm::Target;

/// A group of weights: `scale · byte + offset`.
struct Group {
    bytes: __m256i,
    scale: f32,
    offset: f32,
}

/// How files store a type.
trait Format {
    /// Of a block, and how many groups that has.
    const BYTES: usize;
    const GROUPS: usize = 1;

    /// # Safety
    /// `block` has `BYTES` bytes, and the CPU the instructions.
    unsafe fn group(block: *const u8, group: usize) -> Group;
}

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("f16c")
}

pub fn has(kind: GgmlDType) -> bool {
    use GgmlDType::*;
    matches!(kind, Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q4K | Q5K)
}

/// # Safety
/// As for [`super::multiply`], on a CPU where it [`is_available`].
pub unsafe fn multiply(input: &RoundedRows, weights: &[u8], kind: GgmlDType, target: Target) {
    // SAFETY: the caller promises it.
    unsafe {
        match kind {
            GgmlDType::Q8_0 => run::<Q8_0>(input, weights, target),
            GgmlDType::Q4_0 => run::<Q4_0>(input, weights, target),
            GgmlDType::Q4_1 => run::<Q4_1>(input, weights, target),
            GgmlDType::Q5_0 => run::<Q5_0>(input, weights, target),
            GgmlDType::Q5_1 => run::<Q5_1>(input, weights, target),
            GgmlDType::Q4K => run::<Q4K>(input, weights, target),
            GgmlDType::Q5K => run::<Q5K>(input, weights, target),
            other => unreachable!("there is no kernel for {other:?}"),
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni,avx2,fma,f16c")]
unsafe fn run<F: Format>(input: &RoundedRows, weights: &[u8], target: Target) {
    let row_bytes = input.groups / F::GROUPS * F::BYTES;
    assert!(input.groups.is_multiple_of(F::GROUPS) && weights.len().is_multiple_of(row_bytes));
    let (outputs, rows) = (weights.len() / row_bytes, input.count());
    let product = Product {
        input,
        weights,
        row_bytes,
        target,
    };
    let fours = rows / 4 * 4;
    // SAFETY: tiles are within the rows and outputs that there are.
    unsafe {
        for row in (0..fours).step_by(4) {
            product.tiles::<F, 2, 4>(row, 0..outputs / 2 * 2);
            product.tiles::<F, 1, 4>(row, outputs / 2 * 2..outputs);
        }
        for row in fours..rows {
            product.tiles::<F, 4, 1>(row, 0..outputs / 4 * 4);
            product.tiles::<F, 1, 1>(row, outputs / 4 * 4..outputs);
        }
    }
}

struct Product<'a> {
    input: &'a RoundedRows,
    weights: &'a [u8],
    row_bytes: usize,
    target: Target,
}

impl Product<'_> {
    /// `R` rows of input from `row` on, with these outputs, `W` at a time: sums are independent, so that no instruction
    /// waits for another.
    #[inline(always)]
    unsafe fn tiles<F: Format, const W: usize, const R: usize>(
        &self,
        row: usize,
        outputs: Range<usize>,
    ) {
        let groups = self.input.groups;
        for first in outputs.step_by(W) {
            // SAFETY: the weights have the outputs, and the input the rows and groups.
            unsafe {
                let weights: [*const u8; W] = std::array::from_fn(|w| {
                    self.weights.as_ptr().add((first + w) * self.row_bytes)
                });
                let mut sums = [[_mm256_setzero_ps(); R]; W];
                let mut offsets = [[0f32; R]; W];
                for group in 0..groups {
                    let (block, part) = (group / F::GROUPS * F::BYTES, group % F::GROUPS);
                    for w in 0..W {
                        let own = F::group(weights[w].add(block), part);
                        for r in 0..R {
                            let at = (row + r) * groups + group;
                            let bytes = _mm256_loadu_si256(
                                self.input.bytes.as_ptr().add(at * GROUP).cast(),
                            );
                            let product =
                                _mm256_dpbusd_epi32(_mm256_setzero_si256(), own.bytes, bytes);
                            let scale = own.scale * self.input.scales.get_unchecked(at);
                            let product = _mm256_cvtepi32_ps(product);
                            sums[w][r] =
                                _mm256_fmadd_ps(product, _mm256_set1_ps(scale), sums[w][r]);
                            offsets[w][r] += own.offset * self.input.sums.get_unchecked(at);
                        }
                    }
                }
                for w in 0..W {
                    for r in 0..R {
                        let to = self
                            .target
                            .start
                            .add((row + r) * self.target.stride + first + w);
                        *to = sum(sums[w][r]) + offsets[w][r];
                    }
                }
            }
        }
    }
}

struct Q8_0;
struct Q4_0;
struct Q4_1;
struct Q5_0;
struct Q5_1;
struct Q4K;
struct Q5K;

impl Format for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn group(block: *const u8, _group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            let scale = half(block);
            let signed = _mm256_loadu_si256(block.add(2).cast());
            Group {
                bytes: _mm256_xor_si256(signed, _mm256_set1_epi8(i8::MIN)),
                scale,
                offset: -128.0 * scale,
            }
        }
    }
}

impl Format for Q4_0 {
    const BYTES: usize = 18;

    #[inline(always)]
    unsafe fn group(block: *const u8, _group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            let scale = half(block);
            Group {
                bytes: nibbles(block.add(2)),
                scale,
                offset: -8.0 * scale,
            }
        }
    }
}

impl Format for Q4_1 {
    const BYTES: usize = 20;

    #[inline(always)]
    unsafe fn group(block: *const u8, _group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            Group {
                bytes: nibbles(block.add(4)),
                scale: half(block),
                offset: half(block.add(2)),
            }
        }
    }
}

impl Format for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    unsafe fn group(block: *const u8, _group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            let scale = half(block);
            Group {
                bytes: with_fifth_bits(
                    nibbles(block.add(6)),
                    block.add(2).cast::<u32>().read_unaligned(),
                ),
                scale,
                offset: -16.0 * scale,
            }
        }
    }
}

impl Format for Q5_1 {
    const BYTES: usize = 24;

    #[inline(always)]
    unsafe fn group(block: *const u8, _group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            Group {
                bytes: with_fifth_bits(
                    nibbles(block.add(8)),
                    block.add(4).cast::<u32>().read_unaligned(),
                ),
                scale: half(block),
                offset: half(block.add(2)),
            }
        }
    }
}

impl Format for Q4K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn group(block: *const u8, group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            let (scale, offset) = scale_and_offset(block, group);
            Group {
                bytes: half_bytes(block.add(16), group),
                scale,
                offset,
            }
        }
    }
}

impl Format for Q5K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;

    #[inline(always)]
    unsafe fn group(block: *const u8, group: usize) -> Group {
        // SAFETY: as promised.
        unsafe {
            let (scale, offset) = scale_and_offset(block, group);
            // Bit `group` of each of 32 bytes.
            let fifth = _mm256_loadu_si256(block.add(16).cast());
            let fifth = _mm256_test_epi8_mask(fifth, _mm256_set1_epi8((1u8 << group) as i8));
            Group {
                bytes: with_fifth_bits(half_bytes(block.add(48), group), fifth),
                scale,
                offset,
            }
        }
    }
}

/// A number of 16 bits.
#[inline(always)]
unsafe fn half(at: *const u8) -> f32 {
    // SAFETY: the caller has two bytes there.
    unsafe {
        let bits = at.cast::<u16>().read_unaligned();
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
    }
}

/// 16 bytes as 32 numbers: first all low halves, then all high ones.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: the caller has 16 bytes there.
    unsafe {
        let low = _mm_loadu_si128(at.cast());
        let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

/// The low or high halves of 32 bytes: two groups share them.
#[inline(always)]
unsafe fn half_bytes(at: *const u8, group: usize) -> __m256i {
    // SAFETY: the caller has 128 bytes there.
    unsafe {
        let bytes = _mm256_loadu_si256(at.add(group / 2 * 32).cast());
        let shifted = match group % 2 {
            0 => bytes,
            _ => _mm256_srli_epi16::<4>(bytes),
        };
        _mm256_and_si256(shifted, _mm256_set1_epi8(15))
    }
}

/// Adds 16 where a bit is set.
#[inline(always)]
unsafe fn with_fifth_bits(bytes: __m256i, bits: u32) -> __m256i {
    // SAFETY: the caller is on a CPU that has it.
    unsafe { _mm256_mask_add_epi8(bytes, bits, bytes, _mm256_set1_epi8(16)) }
}

/// Of a group of a K type: six bits each, by two scales of the block. The last groups have theirs in two pieces.
#[inline(always)]
unsafe fn scale_and_offset(block: *const u8, group: usize) -> (f32, f32) {
    // SAFETY: the caller has a block there.
    unsafe {
        let packed = |at: usize| *block.add(4 + at);
        let (scale, offset) = match group {
            0..4 => (packed(group) & 63, packed(group + 4) & 63),
            _ => (
                (packed(group + 4) & 15) | ((packed(group - 4) >> 6) << 4),
                (packed(group + 4) >> 4) | ((packed(group) >> 6) << 4),
            ),
        };
        (
            half(block) * f32::from(scale),
            -half(block.add(2)) * f32::from(offset),
        )
    }
}

#[inline(always)]
unsafe fn sum(lanes: __m256) -> f32 {
    // SAFETY: the caller is on a CPU that has it.
    unsafe {
        let four = _mm_add_ps(
            _mm256_castps256_ps128(lanes),
            _mm256_extractf128_ps::<1>(lanes),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}
