//! Root mean square normalization.

use tenon_plugin_api::Result;

use super::check;
use crate::{compute::Compute, config::Config, weights::Loader};

/// What rows are multiplied with when their root mean square is 1.
pub struct Norm<C: Compute> {
    pub weights: C::Vector,
    pub epsilon: f32,
}

impl<C: Compute> Norm<C> {
    /// For rows of `len`.
    ///
    /// # Errors
    /// As [`Loader::vector`]; `INVALID` if it has another length.
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
