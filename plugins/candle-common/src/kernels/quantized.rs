//! Products with quantized weights. Their input is rounded to bytes.
//!
//! candle's kernels read weights in the order of the files, or keep a second, sorted copy. They leave out some types, and
//! each of their instructions waits for the one before. This module stores weights only in the order of its kernel,
//! [`Packed`]. Whatever the type of the weights, a vector there has four numbers of each of 16 outputs. So one kernel serves
//! all types, and few rows of input as well as many. It needs a CPU with AVX2, AVX-VNNI or AVX-512 VNNI; other CPUs use
//! candle's kernels.

mod blocks;
#[cfg(not(target_arch = "x86_64"))]
mod none;
mod packed;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use candle_core::quantized::GgmlDType;
use fearless_simd::{Level, dispatch};

use super::gemm::Target;
#[cfg(not(target_arch = "x86_64"))]
pub use none::Kernel;
use packed::Layout;
pub use packed::Packed;
#[cfg(target_arch = "x86_64")]
pub use x86::Kernel;

/// Number of inputs whose products with weights are summed in integers.
pub const GROUP: usize = 32;

/// Rows of input, rounded to bytes for weights of some type. As many inputs share a scale as weights share a block.
#[derive(Default)]
pub struct RoundedRows {
    /// `[rows, groups, GROUP]`
    bytes: Vec<i8>,
    /// `[rows, blocks]`
    scales: Vec<f32>,
    /// Initial sums of the products of each part of a group: `[rows, groups, parts]`. They undo the amount by which stored
    /// numbers are above the numbers that they stand for. Empty if that amount is 0.
    starts: Vec<i32>,
    /// Sums of the bytes of each group, to be multiplied with the weights' offsets: `[rows, groups]`. Empty if the weights
    /// have no offsets.
    sums: Vec<i16>,
    rows: usize,
    groups: usize,
}

impl RoundedRows {
    /// Rounds rows of input for `weights` and their kernel. A row is as wide as the weights. Keeps the memory.
    pub fn round(&mut self, rows: &[f32], weights: &Packed, kernel: Kernel) {
        dispatch!(Level::new(), _ => self.round_rows(rows, weights, kernel));
    }

    #[inline(always)]
    fn round_rows(&mut self, rows: &[f32], weights: &Packed, kernel: Kernel) {
        let layout = weights.layout();
        self.rows = rows.len() / weights.inputs();
        self.groups = weights.inputs() / GROUP;
        self.bytes.resize(rows.len(), 0);
        self.scales.clear();
        let block = layout.groups * GROUP;
        let blocks = rows.chunks_exact(block);
        for (block, bytes) in blocks.zip(self.bytes.chunks_exact_mut(block)) {
            let scale = largest(block) / 127.0;
            let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
            self.scales.push(scale);
            for (byte, x) in bytes.iter_mut().zip(block) {
                *byte = nearest(x * inverse) as i8;
            }
        }
        self.add_up(layout, kernel.center(layout));
    }

    #[inline(always)]
    fn add_up(&mut self, layout: Layout, center: i32) {
        self.starts.clear();
        self.sums.clear();
        if center != 0 {
            let parts = self.bytes.chunks_exact(GROUP / layout.parts);
            self.starts.extend(parts.map(|part| -center * sum(part)));
        }
        if layout.has_offset {
            let groups = self.bytes.as_chunks::<GROUP>().0;
            self.sums
                .extend(groups.iter().map(|group| sum(group) as i16));
        }
    }
}

#[inline(always)]
fn sum(bytes: &[i8]) -> i32 {
    bytes.iter().copied().map(i32::from).sum()
}

/// The largest absolute value, or NaN if there is one. Without their signs, floats are ordered like their bits.
#[inline(always)]
fn largest(block: &[f32]) -> f32 {
    let bits = block.iter().map(|x| x.abs().to_bits());
    f32::from_bits(bits.fold(0, u32::max))
}

/// The nearest integer of a number below 2^22; of two equally near ones the even one. Unlike a conversion it takes one
/// instruction for several numbers on every CPU.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    /// At this size the lowest bit of a float has the value 1.
    const ONES: f32 = 1.5 * (1 << 23) as f32;
    (x + ONES).to_bits().wrapping_sub(ONES.to_bits()) as i32
}

/// The kernel that this CPU has for weights of this type. None if there is none.
pub fn kernel(kind: GgmlDType) -> Option<Kernel> {
    packed::Layout::of(kind)?;
    best()
}

/// The fastest kernel of this CPU. None if it has none.
pub fn best() -> Option<Kernel> {
    Kernel::ALL.into_iter().find(|kernel| kernel.is_available())
}

/// Computes the products of all rows of `input` with some strips of `weights`.
///
/// # Safety
/// `kernel` is available. `target` has a place for all outputs of `weights` in each of `input.rows` rows. Nobody else uses
/// the outputs of these strips in those rows meanwhile.
pub unsafe fn multiply(
    kernel: Kernel,
    input: &RoundedRows,
    weights: &Packed,
    strips: Range<usize>,
    target: Target,
) {
    assert!(input.groups * GROUP == weights.inputs() && strips.end <= weights.strips());
    // SAFETY: the caller promises it.
    unsafe { kernel.multiply(input, weights, strips, target) };
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, quantized::QTensor};
    use half::f16;

    use super::*;
    use crate::kernels::memory::{Arena, LargePages};

    const WIDTH: usize = 512;
    const KINDS: [GgmlDType; 8] = [
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];

    fn noise(len: usize) -> Vec<f32> {
        (0..len)
            .map(|at| ((at * 7919) % 1009) as f32 / 504.5 - 1.0 + 0.3)
            .collect()
    }

    /// Packed weights, and the floats to which candle converts the same weights.
    fn weights(kind: GgmlDType, outputs: usize) -> (Packed, Vec<Vec<f32>>) {
        let floats = Tensor::from_vec(noise(outputs * WIDTH), (outputs, WIDTH), &Device::Cpu);
        let weights = QTensor::quantize(&floats.unwrap(), kind).unwrap();
        let packed = Packed::new(
            &weights.data().unwrap(),
            kind,
            WIDTH,
            &Arena::new(LargePages::Later),
        );
        let packed = packed.unwrap().unwrap();
        let floats = weights.dequantize(&Device::Cpu).unwrap();
        (packed, floats.to_vec2().unwrap())
    }

    fn multiply_all(kernel: Kernel, input: &[f32], weights: &Packed) -> Vec<f32> {
        let mut rounded = RoundedRows::default();
        rounded.round(input, weights, kernel);
        let mut out = vec![0.0; rounded.rows * weights.outputs()];
        let target = Target {
            start: out.as_mut_ptr(),
            stride: weights.outputs(),
        };
        // SAFETY: the target has the rows, and callers have the kernel.
        unsafe { multiply(kernel, &rounded, weights, 0..weights.strips(), target) };
        out
    }

    fn check(kernel: Kernel, kind: GgmlDType, rows: usize, outputs: usize) {
        let (packed, floats) = weights(kind, outputs);
        // Rounding does not change integers up to 127 if 127 itself is among them, with either sign.
        let mut input = noise(rows * WIDTH);
        input.iter_mut().for_each(|x| *x = (*x * 90.0).round());
        input
            .chunks_exact_mut(GROUP)
            .for_each(|group| group[5] = -127.0);
        let out = multiply_all(kernel, &input, &packed);
        for (row, input) in input.chunks_exact(WIDTH).enumerate() {
            for (at, weights) in floats.iter().enumerate() {
                let products = input.iter().zip(weights);
                let expected: f64 = products.map(|(x, w)| f64::from(x * w)).sum();
                let got = out[row * outputs + at];
                let apart = (f64::from(got) - expected).abs();
                assert!(
                    apart < 0.02,
                    "{kernel:?}, {kind:?}, row {row} of {rows}, {at}: {got}, not {expected}"
                );
            }
        }
    }

    /// Checks weights whose bytes are all the same, except for the scales of blocks, with the largest inputs.
    fn check_largest(kernel: Kernel, kind: GgmlDType, byte: u8) {
        let mut bytes = vec![byte; 20 * WIDTH / kind.block_size() * kind.type_size()];
        let scales: &[usize] = match kind {
            GgmlDType::Q8_0 | GgmlDType::Q4_0 | GgmlDType::Q5_0 => &[0],
            GgmlDType::Q6K => &[208],
            _ => &[0, 2],
        };
        for block in bytes.chunks_exact_mut(kind.type_size()) {
            for &at in scales {
                block[at..at + 2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
            }
        }
        let packed = Packed::new(&bytes, kind, WIDTH, &Arena::new(LargePages::Later))
            .unwrap()
            .unwrap();
        for x in [127.0, -127.0] {
            let out = multiply_all(kernel, &[x; WIDTH], &packed);
            for (output, got) in out.into_iter().enumerate() {
                let weights = packed.row(output).map(f64::from);
                let expected = weights.sum::<f64>() * f64::from(x);
                let apart = (f64::from(got) - expected).abs();
                assert!(
                    apart <= 1e-5 * expected.abs(),
                    "{kernel:?}, {kind:?}, {byte:#x}: {got}, not {expected}"
                );
            }
        }
    }

    /// The kernels that this CPU has. The output of a test shows which they are.
    fn kernels() -> impl Iterator<Item = Kernel> {
        let (there, missing): (Vec<_>, Vec<_>) =
            Kernel::ALL.iter().partition(|kernel| kernel.is_available());
        println!("tested: {there:?}, not on this CPU: {missing:?}");
        there.into_iter()
    }

    #[test]
    fn products_are_those_of_the_weights_that_candle_reads() {
        for kernel in kernels() {
            for kind in KINDS {
                for (rows, outputs) in [(1, 32), (1, 7), (5, 16), (13, 45)] {
                    check(kernel, kind, rows, outputs);
                }
            }
        }
        assert!(kernel(GgmlDType::F32).is_none());
    }

    #[test]
    fn rounded_input_changes_products_little() {
        let (packed, floats) = weights(GgmlDType::Q8_0, 3);
        let input = noise(WIDTH);
        for kernel in kernels() {
            for (got, weights) in multiply_all(kernel, &input, &packed).iter().zip(&floats) {
                let expected: f32 = input.iter().zip(weights).map(|(x, w)| x * w).sum();
                assert!(
                    (got - expected).abs() < 0.3,
                    "{kernel:?}: {got}, not {expected}"
                );
            }
        }
    }

    /// The largest numbers of a type with the largest input: no intermediate sum overflows.
    #[test]
    fn the_largest_products_have_room() {
        for kernel in kernels() {
            for kind in KINDS {
                for byte in [0x00, 0x80, 0x7f, 0xff] {
                    check_largest(kernel, kind, byte);
                }
            }
        }
    }

    #[test]
    fn sorted_weights_are_those_of_the_file() {
        for kind in KINDS {
            let (packed, floats) = weights(kind, 19);
            for (output, expected) in floats.iter().enumerate() {
                let row: Vec<f32> = packed.row(output).collect();
                assert_eq!(row, *expected, "{kind:?}, {output}");
            }
        }
    }
}
