//! The buffers of a forward pass.

use tenon_plugin_api::Result;

use super::ropes::BatchCosSin;
use crate::compute::Compute;

/// Memory that is kept from step to step.
pub struct Buffers<C: Compute> {
    pub(super) hidden: C::Rows,
    pub(super) normed: C::Rows,
    pub(super) attended: C::Rows,
    pub(super) gated: C::Rows,
    pub(super) qkv: C::Rows,
    pub(super) gate_up: C::Rows,
    /// The output of attention or MLP, which is added to `hidden`.
    pub(super) added: C::Rows,
    pub(super) cos_sin: BatchCosSin<C::CosSin>,
}

impl<C: Compute> Buffers<C> {
    /// # Errors
    /// Those of [`Compute`].
    pub fn new(compute: &C) -> Result<Self> {
        Ok(Self {
            hidden: compute.rows()?,
            normed: compute.rows()?,
            attended: compute.rows()?,
            gated: compute.rows()?,
            qkv: compute.rows()?,
            gate_up: compute.rows()?,
            added: compute.rows()?,
            cos_sin: BatchCosSin::default(),
        })
    }
}
