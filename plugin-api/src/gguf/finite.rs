//! Checks that weights are finite: one NaN or infinity would make every answer of the model fail.

use crate::levels::TensorType;

/// Whether every weight in `bytes` is finite. `bytes` holds whole blocks of the type `kind`. Types whose scales are not
/// floats are not checked: the result is true.
///
/// ```
/// use tenon_plugin_api::{gguf, levels};
///
/// let f32 = levels::find("F32").unwrap().tensor;
/// assert!(gguf::all_finite(f32, &1.5f32.to_le_bytes()));
/// assert!(!gguf::all_finite(f32, &f32::NAN.to_le_bytes()));
/// ```
pub fn all_finite(kind: TensorType, bytes: &[u8]) -> bool {
    match kind.name {
        "F32" => all_below(bytes, F32, u32::from_le_bytes),
        "F16" => all_below(bytes, F16, u16::from_le_bytes),
        "BF16" => all_below(bytes, BF16, u16::from_le_bytes),
        // The scale is an eight-bit exponent, and 255 means NaN.
        "MXFP4" => bytes
            .iter()
            .step_by(kind.block_bytes as usize)
            .all(|&scale| scale != u8::MAX),
        "Q8_K" => blocks::<0, 4>(kind, bytes, |scale| u32::from_le_bytes(scale) & F32 != F32),
        "Q4_1" | "Q5_1" | "Q8_1" | "Q4_K" | "Q5_K" => blocks::<0, 4>(kind, bytes, two_halves),
        "Q2_K" => blocks::<80, 4>(kind, bytes, two_halves),
        "Q3_K" => blocks::<108, 2>(kind, bytes, half),
        "Q6_K" => blocks::<208, 2>(kind, bytes, half),
        "TQ1_0" => blocks::<52, 2>(kind, bytes, half),
        "TQ2_0" => blocks::<64, 2>(kind, bytes, half),
        "Q4_0" | "Q5_0" | "Q8_0" | "Q1_0" | "Q2_0" | "IQ1_S" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S"
        | "IQ3_XXS" | "IQ3_S" | "IQ4_NL" | "IQ4_XS" => blocks::<0, 2>(kind, bytes, half),
        _ => true,
    }
}

/// Exponent bits. All of them are set in an infinity and in a NaN.
const F32: u32 = 0x7F80_0000;
const F16: u16 = 0x7C00;
const BF16: u16 = 0x7F80;

/// Checks parts of [`PART`] numbers without leaving a part early: then the compiler compares many numbers at once.
fn all_below<const N: usize, T>(bytes: &[u8], mask: T, read: fn([u8; N]) -> T) -> bool
where
    T: Copy + PartialEq + std::ops::BitAnd<Output = T>,
{
    let (numbers, _) = bytes.as_chunks::<N>();
    let parts = numbers.chunks(PART);
    let broken = |number: &[u8; N]| read(*number) & mask == mask;
    !parts
        .into_iter()
        .any(|part| part.iter().fold(false, |any, number| any | broken(number)))
}

/// Numbers of one part.
const PART: usize = 4096;

/// Checks the scales of each block: the `LEN` bytes from byte `AT` on.
fn blocks<const AT: usize, const LEN: usize>(
    kind: TensorType,
    bytes: &[u8],
    is_finite: fn([u8; LEN]) -> bool,
) -> bool {
    let mut blocks = bytes.chunks_exact(kind.block_bytes as usize);
    blocks.all(|block| {
        block[AT..]
            .first_chunk()
            .is_some_and(|scales| is_finite(*scales))
    })
}

fn half(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & F16 != F16
}

fn two_halves([a, b, c, d]: [u8; 4]) -> bool {
    half([a, b]) && half([c, d])
}
