//! Checks that weights are finite: one NaN or infinity would make every answer of the model fail.

use candle_core::quantized::GgmlDType;
use tenon_plugin_api::{Error, Result, gguf::all_finite, levels};

use super::type_name;

/// # Errors
/// `INVALID` with the tensor's name, if some of its weights are not finite.
pub fn check(name: &str, kind: GgmlDType, bytes: &[u8]) -> Result<()> {
    let kind = levels::find(type_name(kind)).map(|level| level.tensor);
    match kind.is_none_or(|kind| all_finite(kind, bytes)) {
        true => Ok(()),
        false => Err(Error::not_finite(name)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Device, Tensor,
        quantized::{QStorage, QTensor},
    };

    use super::*;
    use crate::weights::CANDLE_TYPES;

    /// Whatever bits are set in a block, it is refused if and only if some of its weights are not finite.
    #[test]
    fn what_is_no_number_is_found_in_every_type() {
        for &kind in CANDLE_TYPES {
            let numbers: Vec<_> = (0..512).map(|n| (n % 37) as f32 - 18.0).collect();
            let tensor = Tensor::from_vec(numbers, (2, 256), &Device::Cpu).unwrap();
            let tensor = QTensor::quantize(&tensor, kind).unwrap();
            let bytes = tensor.data().unwrap().into_owned();
            assert!(check("x", kind, &bytes).is_ok(), "{kind:?}");
            for at in 0..bytes.len() / 2 {
                let mut broken = bytes.clone();
                broken[2 * at..2 * at + 2].copy_from_slice(&[0x80, 0x7F]);
                let found = check("x", kind, &broken).is_err();
                let expected = dequantized(&broken, kind).iter().any(|x| !x.is_finite());
                assert_eq!(found, expected, "{kind:?} at {}", 2 * at);
            }
        }
    }

    fn dequantized(bytes: &[u8], kind: GgmlDType) -> Vec<f32> {
        let storage = QStorage::from_data(bytes.into(), &Device::Cpu, kind).unwrap();
        let tensor = QTensor::new(storage, (2, 256)).unwrap();
        let tensor = tensor.dequantize(&Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }
}
