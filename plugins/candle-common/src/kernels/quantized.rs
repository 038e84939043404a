//! Products with quantized weights, whose input is rounded to bytes.
//!
//! candle's kernels read weights as files have them, or keep a copy in another order, and leave out types; each of their
//! instructions waits for the one before. Here weights are only kept in the order of the kernel, [`Packed`], in which whatever
//! their type a vector has four numbers of each of 16 outputs: one kernel serves all types, and few rows of input as well as
//! many. It needs a CPU with AVX-512 VNNI; on others, candle's are used.

mod blocks;
mod packed;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::gemm::Target;
pub use packed::Packed;

/// Inputs that share a scale.
pub const GROUP: usize = 32;

/// Rows of input, rounded to bytes.
pub struct RoundedRows {
    /// `[rows, groups, GROUP]`
    bytes: Vec<i8>,
    /// `[rows, groups]`
    scales: Vec<f32>,
    /// Of each half of a group, in bytes: `[rows, groups, 2]`.
    halves: Vec<i32>,
    /// Of each group, by its scale: `[rows, groups]`.
    sums: Vec<f32>,
    groups: usize,
}

impl RoundedRows {
    /// Rounds rows of `width`, a multiple of [`GROUP`].
    pub fn new(rows: &[f32], width: usize) -> Self {
        let (groups, _) = rows.as_chunks::<GROUP>();
        let mut rounded = Self {
            bytes: Vec::with_capacity(rows.len()),
            scales: Vec::with_capacity(groups.len()),
            halves: Vec::with_capacity(2 * groups.len()),
            sums: Vec::with_capacity(groups.len()),
            groups: width / GROUP,
        };
        for group in groups {
            let largest = group.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let bytes = group.map(|x| (x * inverse).round_ties_even() as i8);
            let sum = |half: &[i8]| half.iter().copied().map(i32::from).sum::<i32>();
            let halves = [sum(&bytes[..GROUP / 2]), sum(&bytes[GROUP / 2..])];
            let scale = largest / 127.0;
            rounded.bytes.extend_from_slice(&bytes);
            rounded.scales.push(scale);
            rounded.halves.extend(halves);
            rounded.sums.push(scale * (halves[0] + halves[1]) as f32);
        }
        rounded
    }

    fn count(&self) -> usize {
        self.scales.len() / self.groups
    }
}

/// Whether there is a kernel for weights of this type on this CPU.
pub fn serves(kind: GgmlDType) -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::is_available() && packed::Layout::of(kind).is_some();
    #[cfg(not(target_arch = "x86_64"))]
    return {
        let _ = kind;
        false
    };
}

/// The products of all rows of `input` with some strips of `weights`, of a type that [`serves`].
///
/// # Safety
/// `target` is the place for all outputs of `weights`. It has `input.count()` rows, and in those nobody else uses the outputs of
/// these strips meanwhile.
pub unsafe fn multiply(
    input: &RoundedRows,
    weights: &Packed,
    strips: Range<usize>,
    target: Target,
) {
    assert!(serves(weights.kind()) && input.groups * GROUP == weights.inputs());
    assert!(strips.end <= weights.strips());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the CPU has the instructions, as just checked, and the caller promises the target.
    unsafe {
        x86::multiply(input, weights, strips, target);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (input, weights, strips, target);
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, quantized::QTensor};

    use super::*;

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
        let packed = Packed::new(&weights.data().unwrap(), kind, WIDTH).unwrap();
        let floats = weights.dequantize(&Device::Cpu).unwrap();
        (packed, floats.to_vec2().unwrap())
    }

    fn multiply_all(input: &[f32], weights: &Packed) -> Vec<f32> {
        let rounded = RoundedRows::new(input, WIDTH);
        let mut out = vec![0.0; rounded.count() * weights.outputs()];
        let target = Target {
            start: out.as_mut_ptr(),
            stride: weights.outputs(),
        };
        // SAFETY: the target has the rows.
        unsafe { multiply(&rounded, weights, 0..weights.strips(), target) };
        out
    }

    fn check(kind: GgmlDType, rows: usize, outputs: usize) {
        let (packed, floats) = weights(kind, outputs);
        // Rounding changes nothing about whole numbers up to 127, if that is among them.
        let mut input = noise(rows * WIDTH);
        input.iter_mut().for_each(|x| *x = (*x * 90.0).round());
        input
            .chunks_exact_mut(GROUP)
            .for_each(|group| group[5] = -127.0);
        let out = multiply_all(&input, &packed);
        for (row, input) in input.chunks_exact(WIDTH).enumerate() {
            for (at, weights) in floats.iter().enumerate() {
                let products = input.iter().zip(weights);
                let expected: f64 = products.map(|(x, w)| f64::from(x * w)).sum();
                let got = out[row * outputs + at];
                let apart = (f64::from(got) - expected).abs();
                assert!(
                    apart < 0.02,
                    "{kind:?}, row {row} of {rows}, {at}: {got}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn products_are_those_of_the_weights_that_candle_reads() {
        for kind in KINDS.into_iter().filter(|&kind| serves(kind)) {
            for (rows, outputs) in [(1, 32), (1, 7), (5, 16), (13, 45)] {
                check(kind, rows, outputs);
            }
        }
        assert!(!serves(GgmlDType::F32));
    }

    #[test]
    fn rounded_input_changes_products_little() {
        let (packed, floats) = weights(GgmlDType::Q8_0, 3);
        if !serves(GgmlDType::Q8_0) {
            return;
        }
        let input = noise(WIDTH);
        for (got, weights) in multiply_all(&input, &packed).iter().zip(&floats) {
            let expected: f32 = input.iter().zip(weights).map(|(x, w)| x * w).sum();
            assert!((got - expected).abs() < 0.3, "{got}, not {expected}");
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
