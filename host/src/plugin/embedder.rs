//! A model's embedder, wrapped as ordinary Rust. What the plugin reports is checked here, once.

use abi_stable::std_types::RSlice;
use tenon_plugin_api::{Code, EmbedderInfo, Error, Interrupt, Result, abi::EmbedderBox};

use super::fault::plugin_fault;

/// Limit of a vector's dimensions, many times those of any real model.
const MAX_DIMENSIONS: u32 = 1 << 20;

/// Turns texts into vectors of length 1. A cross-encoder turns pairs of texts into relevance scores.
pub struct Embedder {
    object: EmbedderBox,
    info: EmbedderInfo,
}

impl Embedder {
    pub(super) fn new(object: EmbedderBox) -> Result<Self> {
        let info = EmbedderInfo::from(object.info().into_result()?);
        info.meta.check()?;
        if info.dimensions == 0 || info.max_tokens == 0 {
            return Err(plugin_fault("embeds texts into nothing"));
        }
        if info.dimensions > MAX_DIMENSIONS {
            let what = format!("embeds texts into {} dimensions", info.dimensions);
            return Err(plugin_fault(&what));
        }
        if info.pair_template().is_some() && info.dimensions != 1 {
            let what = format!("judges a pair of texts with {} numbers", info.dimensions);
            return Err(plugin_fault(&what));
        }
        Ok(Self { object, info })
    }

    /// Facts about the embedder.
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Vectors of texts, or the relevance scores of pairs: `[texts, dimensions]`. Each text has 1 to `max_tokens` known tokens.
    pub fn embed(&mut self, texts: &[Vec<u32>], interrupt: &Interrupt) -> Result<Vec<f32>> {
        let dimensions = self.info.dimensions as usize;
        let mut out = vec![0.0; texts.len() * dimensions];
        let texts: Vec<RSlice<'_, u32>> = texts.iter().map(|text| text.as_slice().into()).collect();
        let texts = texts.as_slice().into();
        let result = self
            .object
            .embed(texts, interrupt, out.as_mut_slice().into());
        result.into_result()?;
        match self.info.pair_template() {
            Some(_) => out.iter().try_for_each(check_relevance)?,
            None => out
                .chunks_exact_mut(dimensions)
                .try_for_each(scale_to_one)?,
        }
        Ok(out)
    }
}

/// Checks a relevance score.
fn check_relevance(relevance: &f32) -> Result<()> {
    match (0.0..=1.0).contains(relevance) {
        true => Ok(()),
        false => Err(Error::new(
            Code::INTERNAL,
            format!("the model judged a text with {relevance}, which is not from 0 to 1"),
        )),
    }
}

/// Scales a vector to length 1.
fn scale_to_one(vector: &mut [f32]) -> Result<()> {
    // Computed in f64, in which the squares of any f32 values and their sum are finite.
    let squares = vector.iter().map(|&x| f64::from(x).powi(2));
    let length = squares.sum::<f64>().sqrt();
    if !(length.is_finite() && length > 0.0) {
        let message = "the model gave a vector without a direction for this text";
        return Err(Error::new(Code::INTERNAL, message));
    }
    for x in vector {
        *x = (f64::from(*x) / length) as f32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_get_length_one_or_are_refused() {
        let mut vector = [3e30, -4e30];
        scale_to_one(&mut vector).unwrap();
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(
            close(vector[0], 0.6) && close(vector[1], -0.8),
            "{vector:?}"
        );
        for mut wrong in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            assert_eq!(scale_to_one(&mut wrong).unwrap_err().code, Code::INTERNAL);
        }
    }

    #[test]
    fn relevance_is_from_zero_to_one() {
        for right in [0.0, 0.5, 1.0] {
            assert_eq!(check_relevance(&right), Ok(()));
        }
        for wrong in [-0.1, 1.1, f32::NAN] {
            assert_eq!(check_relevance(&wrong).unwrap_err().code, Code::INTERNAL);
        }
    }
}
