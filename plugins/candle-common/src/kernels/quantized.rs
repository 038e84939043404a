//! Products with quantized weights, whose input is rounded to bytes.
//!
//! candle's kernels read weights as files have them, or keep a copy in another order, and leave out types; each of their
//! instructions waits for the one before. Here weights are only kept in the order of the kernel, [`Packed`], in which whatever
//! their type a vector has four numbers of each of 16 outputs: one kernel serves all types, and few rows of input as well as
//! many. It needs a CPU with AVX-512 VNNI or AVX2; on others, candle's are used.

mod blocks;
#[cfg(not(target_arch = "x86_64"))]
mod none;
mod packed;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::gemm::Target;
#[cfg(not(target_arch = "x86_64"))]
pub use none::Kernel;
use packed::Layout;
pub use packed::Packed;
#[cfg(target_arch = "x86_64")]
pub use x86::Kernel;

/// Inputs whose products with weights are added up in whole numbers.
pub const GROUP: usize = 32;

/// Rows of input, rounded to bytes for weights of some type: as many inputs share a scale as weights share a block.
#[derive(Default)]
pub struct RoundedRows {
    /// `[rows, groups, GROUP]`
    bytes: Vec<i8>,
    /// `[rows, blocks]`
    scales: Vec<f32>,
    /// What products of the parts of a group begin with, because numbers are above what they stand for: `[rows, groups, parts]`.
    /// Empty if they are not.
    starts: Vec<i32>,
    /// Sums of a group's bytes, by which the offsets of weights count: `[rows, groups]`. Empty if weights have none.
    sums: Vec<i16>,
    rows: usize,
    groups: usize,
}

impl RoundedRows {
    /// Rounds rows for `weights` and their kernel. Their width is that of the weights. Keeps its memory.
    pub fn round(&mut self, rows: &[f32], weights: &Packed, kernel: Kernel) {
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

fn sum(bytes: &[i8]) -> i32 {
    bytes.iter().copied().map(i32::from).sum()
}

/// The largest without its sign; NaN if there is one. Without their signs, floats are in the order of their bits.
fn largest(block: &[f32]) -> f32 {
    let bits = block.iter().map(|x| x.abs().to_bits());
    f32::from_bits(bits.fold(0, u32::max))
}

/// The nearest whole number, the even one of two, for numbers below 2^22. Unlike a conversion it takes one instruction for
/// several on every CPU.
fn nearest(x: f32) -> i32 {
    /// At this size the lowest bit of a float counts one.
    const ONES: f32 = 1.5 * (1 << 23) as f32;
    (x + ONES).to_bits().wrapping_sub(ONES.to_bits()) as i32
}

/// The kernel of this CPU for weights of this type, if there is one.
pub fn kernel(kind: GgmlDType) -> Option<Kernel> {
    packed::Layout::of(kind)?;
    Kernel::ALL.into_iter().find(|kernel| kernel.is_available())
}

/// The products of all rows of `input` with some strips of `weights`.
///
/// # Safety
/// `kernel` is available. `target` is the place for all outputs of `weights`. It has `input.rows` rows, and in those nobody
/// else uses the outputs of these strips meanwhile.
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

    /// As they are sorted, and the floats that candle makes of them.
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
        // Rounding changes nothing about whole numbers up to 127, if that is among them.
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

    /// Weights whose bytes are all alike, but for the scales of blocks, by the largest inputs.
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

    /// Those of this CPU. Which they are shows in the output of a test.
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

    /// The largest numbers that a type can have, with the largest input: nothing overflows on the way.
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
