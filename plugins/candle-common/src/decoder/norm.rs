//! Root mean square normalization (RMS norm).

use tenon_plugin_api::Result;

use super::check;
use crate::{compute::Compute, config::Config, weights::Loader};

/// The weights that normalized rows are multiplied with.
pub struct Norm<C: Compute> {
    pub weights: C::Vector,
    pub epsilon: f32,
}

impl<C: Compute> Norm<C> {
    /// Loads the norm of rows of `len` numbers.
    ///
    /// # Errors
    /// As [`Loader::vector`]; `INVALID` if the norm has another length.
    pub fn load(
        compute: &C,
        config: &Config,
        loader: &Loader,
        name: &str,
        len: usize,
    ) -> Result<Self> {
        let mut weights = loader.vector(name)?;
        check(name, weights.len(), len)?;
        weights
            .iter_mut()
            .for_each(|weight| *weight += config.norm_offset);
        Ok(Self {
            weights: compute.vector(weights)?,
            epsilon: config.norm_epsilon,
        })
    }
}
