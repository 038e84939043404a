//! Replaces the kernels on CPUs without any: `Kernel` has no value, so nothing here is ever called.

use std::ops::Range;

use super::{Packed, RoundedRows, Target, packed::Layout};

#[derive(Clone, Copy)]
pub enum Kernel {}

impl Kernel {
    pub const ALL: [Self; 0] = [];

    pub fn name(self) -> &'static str {
        match self {}
    }

    pub fn is_available(&self) -> bool {
        match *self {}
    }

    pub fn center(self, _: Layout) -> i32 {
        match self {}
    }

    /// # Safety
    /// Nobody can call it.
    pub unsafe fn multiply(self, _: &RoundedRows, _: &Packed, _: Range<usize>, _: Target) {
        match self {}
    }
}
