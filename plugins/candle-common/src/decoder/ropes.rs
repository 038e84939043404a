//! RoPE in a decoder, whose local layers may have other frequencies than the rest.

use tenon_plugin_api::Result;

use crate::{
    compute::{Compute, Layer},
    config::{Config, Rope, RopeConfig},
};

/// RoPE frequencies for the lengths that a session serves.
pub struct Ropes {
    global: Rope,
    local: Option<Rope>,
}

/// RoPE cosines and sines at the positions of a batch.
#[derive(Default)]
pub(super) struct BatchCosSin<T> {
    global: T,
    local: T,
}

impl Ropes {
    /// The frequencies for sequences of up to `context_length` tokens.
    pub fn new(config: &Config, context_length: u32) -> Self {
        let resolve = |rope: &RopeConfig| rope.resolve(config.rope_layout, context_length);
        Self {
            global: resolve(&config.rope),
            local: config.local_rope.as_ref().map(resolve),
        }
    }

    /// Computes the cosines and sines at these positions.
    ///
    /// # Errors
    /// Those of [`Compute`].
    pub(super) fn cos_sin<C: Compute>(
        &self,
        compute: &C,
        positions: &[u32],
        to: &mut BatchCosSin<C::CosSin>,
    ) -> Result<()> {
        compute.cos_sin(&self.global, positions, &mut to.global)?;
        match &self.local {
            Some(local) => compute.cos_sin(local, positions, &mut to.local),
            None => Ok(()),
        }
    }

    /// The frequencies of a layer, with their cosines and sines.
    pub(super) fn of<'a, T>(
        &'a self,
        layer: Layer,
        cos_sin: &'a BatchCosSin<T>,
    ) -> (&'a Rope, &'a T) {
        match (&self.local, layer.window()) {
            (Some(local), Some(_)) => (local, &cos_sin.local),
            _ => (&self.global, &cos_sin.global),
        }
    }
}
