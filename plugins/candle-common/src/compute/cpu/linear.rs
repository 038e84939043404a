//! Linear layers on the CPU.

use tenon_plugin_api::{Error, Result};

use super::Cpu;
use crate::{
    kernels::elementwise,
    layers::{Linear, WeightMatrix},
    matrix::Matrix,
    pool::{self, SharedRows},
};

impl Linear<Cpu> {
    /// Reads the weights of some outputs, one row for each.
    ///
    /// # Errors
    /// For outputs that do not exist, and for layers with parts of several types.
    pub fn read_rows(&self, outputs: &[u32], to: &mut Matrix) -> Result<()> {
        match self.parts() {
            [part] => part.read_rows(outputs, to),
            _ => Err(Error::unsupported("reading rows of several types")),
        }
    }

    /// # Errors
    /// `INVALID` for input of another width; `INTERNAL` for errors of candle.
    pub fn forward(&self, input: &Matrix, output: &mut Matrix) -> Result<()> {
        output.reshape(input.rows(), self.outputs());
        let shared = SharedRows::new(output.data_mut(), self.outputs());
        let mut column = 0;
        for part in self.parts() {
            part.multiply(input, &shared, column)?;
            column += part.outputs();
        }
        if let Some(bias) = self.bias() {
            pool::for_each_row(output.data_mut(), self.outputs(), |_, row| {
                elementwise::add(row, bias);
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Device, Tensor,
        quantized::{GgmlDType, QTensor},
    };

    use super::*;
    use crate::kernels::memory::{Arena, LargePages};

    const INPUTS: usize = 96;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        let number = |at| ((at * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        (0..len).map(number).collect()
    }

    fn weights(outputs: usize, kind: GgmlDType) -> QTensor {
        let tensor = Tensor::from_vec(
            numbers(outputs * INPUTS, outputs),
            (outputs, INPUTS),
            &Device::Cpu,
        );
        QTensor::quantize(&tensor.unwrap(), kind).unwrap()
    }

    /// The products by their definition, over the quantized weights.
    fn expected(row: &[f32], weights: &QTensor) -> Vec<f32> {
        let weights = weights.dequantize(&Device::Cpu).unwrap();
        let products = weights.to_vec2::<f32>().unwrap().into_iter();
        products
            .map(|weights| weights.iter().zip(row).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn check(linear: &Linear<Cpu>, parts: &[QTensor], rows: usize, tolerance: f32) {
        let input = Matrix::new(numbers(rows * INPUTS, 5), INPUTS);
        let mut output = Matrix::zeros(0, 1);
        linear.forward(&input, &mut output).unwrap();
        for row in 0..rows {
            let sums = parts.iter().flat_map(|part| expected(input.row(row), part));
            for (at, (got, expected)) in output.row(row).iter().zip(sums).enumerate() {
                let bias = linear.bias().map_or(0.0, |bias| bias[at]);
                let apart = (got - expected - bias).abs();
                assert!(
                    apart < tolerance,
                    "row {row} of {rows}, {at}: {apart} apart"
                );
            }
        }
    }

    #[test]
    fn few_rows_and_many_give_the_same_sums() {
        let kinds = [
            (GgmlDType::F32, 1e-4),
            (GgmlDType::BF16, 0.1),
            (GgmlDType::Q4_1, 0.2),
            (GgmlDType::Q8_0, 0.2),
        ];
        for (kind, tolerance) in kinds {
            // More outputs than a panel has, and no multiple of it.
            let linear = Linear::new(
                &Cpu,
                vec![weights(300, kind)],
                None,
                &Arena::new(LargePages::Later),
            )
            .unwrap();
            for rows in [1, 6, 24, 70] {
                check(&linear, &[weights(300, kind)], rows, tolerance);
            }
        }
    }

    #[test]
    fn layers_of_one_input_stand_side_by_side() {
        let parts = || {
            vec![
                weights(40, GgmlDType::F32),
                weights(20, GgmlDType::F32),
                weights(24, GgmlDType::Q8_0),
            ]
        };
        let linear = Linear::new(
            &Cpu,
            parts(),
            Some(numbers(84, 3)),
            &Arena::new(LargePages::Later),
        )
        .unwrap();
        assert_eq!(
            (linear.parts().len(), linear.outputs(), linear.inputs()),
            (2, 84, INPUTS)
        );
        for rows in [1, 3, 50] {
            check(&linear, &parts(), rows, 0.2);
        }
        let narrow = Matrix::zeros(2, INPUTS / 2);
        assert!(linear.forward(&narrow, &mut Matrix::zeros(0, 1)).is_err());
    }
}
