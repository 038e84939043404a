//! Root mean square normalization (RMS norm).

use tenon_plugin_api::Result;

use super::Hardware;
use crate::{
    config::Config,
    weights::{TensorLoader, check_side},
};

/// The weights that normalized rows are multiplied with.
pub struct Norm<H: Hardware> {
    pub weights: H::Vector,
    pub epsilon: f32,
}

impl<H: Hardware> Norm<H> {
    /// Loads the norm of rows of `len` numbers.
    ///
    /// # Errors
    /// As [`TensorLoader::vector`]; `INVALID` if the norm has another length.
    pub fn load(
        hardware: &H,
        config: &Config,
        loader: &TensorLoader,
        name: &str,
        len: usize,
    ) -> Result<Self> {
        let mut weights = loader.vector(name)?;
        check_side(name, weights.len(), len)?;
        weights
            .iter_mut()
            .for_each(|weight| *weight += config.norm_offset);
        Ok(Self {
            weights: hardware.vector(weights)?,
            epsilon: config.norm_epsilon,
        })
    }
}
