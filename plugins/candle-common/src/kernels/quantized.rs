//! Products of few rows of input with quantized weights, which stay as files have them.
//!
//! candle's kernels for few rows have no vector instructions for some types, and where it sorts weights first, each
//! instruction waits for the one before. Here a group of 32 weights is one vector of bytes, whatever its type:
//! `weight = scale · byte + offset`, so one kernel serves all. It needs a CPU with AVX-512 VNNI; on others, candle's are used.

use candle_core::quantized::GgmlDType;

use super::gemm::Target;

/// Numbers that share a scale.
pub const GROUP: usize = 32;

/// Rows of input, rounded to bytes.
pub struct RoundedRows {
    /// `[rows, groups, GROUP]`
    bytes: Vec<i8>,
    /// `[rows, groups]`
    scales: Vec<f32>,
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
            sums: Vec::with_capacity(groups.len()),
            groups: width / GROUP,
        };
        for group in groups {
            let largest = group.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let bytes = group.map(|x| (x * inverse).round_ties_even() as i8);
            let sum: i32 = bytes.iter().copied().map(i32::from).sum();
            let scale = largest / 127.0;
            rounded.bytes.extend_from_slice(&bytes);
            rounded.scales.push(scale);
            rounded.sums.push(scale * sum as f32);
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
    return x86::is_available() && x86::has(kind);
    #[cfg(not(target_arch = "x86_64"))]
    return {
        let _ = kind;
        false
    };
}

/// The products of all rows of `input` with some rows of `weights`, for a type that [`serves`].
///
/// # Safety
/// `target` has `input.count()` rows, as long as `weights` has rows, that nobody else uses meanwhile.
pub unsafe fn multiply(input: &RoundedRows, weights: &[u8], kind: GgmlDType, target: Target) {
    assert!(serves(kind));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the CPU has the instructions, as just checked, and the caller promises the target.
    unsafe {
        x86::multiply(input, weights, kind, target);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (input, weights, target);
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, quantized::QTensor};

    use super::*;

    fn noise(len: usize) -> Vec<f32> {
        (0..len)
            .map(|at| ((at * 7919) % 1009) as f32 / 504.5 - 1.0 + 0.3)
            .collect()
    }

    fn check(kind: GgmlDType, rows: usize, outputs: usize) {
        const WIDTH: usize = 512;
        let input = noise(rows * WIDTH);
        let weights =
            Tensor::from_vec(noise(outputs * WIDTH), (outputs, WIDTH), &Device::Cpu).unwrap();
        let weights = QTensor::quantize(&weights, kind).unwrap();
        let mut out = vec![0.0; rows * outputs];
        let target = Target {
            start: out.as_mut_ptr(),
            stride: outputs,
        };
        let rounded = RoundedRows::new(&input, WIDTH);
        // SAFETY: the target has the rows.
        unsafe { multiply(&rounded, &weights.data().unwrap(), kind, target) };
        let exact = weights
            .dequantize(&Device::Cpu)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (row, input) in input.chunks_exact(WIDTH).enumerate() {
            for (at, weights) in exact.iter().enumerate() {
                let expected: f32 = input.iter().zip(weights).map(|(x, w)| x * w).sum();
                let got = out[row * outputs + at];
                let apart = (got - expected).abs();
                assert!(
                    apart < 0.3,
                    "{kind:?}, row {row} of {rows}, {at}: {got}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn every_type_gives_the_sums_of_its_rounded_weights() {
        let kinds = [
            GgmlDType::Q8_0,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q5_1,
            GgmlDType::Q4K,
            GgmlDType::Q5K,
        ];
        for kind in kinds.into_iter().filter(|&kind| serves(kind)) {
            for (rows, outputs) in [(1, 4), (1, 7), (4, 2), (7, 5)] {
                check(kind, rows, outputs);
            }
        }
        assert!(!serves(GgmlDType::F32));
    }
}
