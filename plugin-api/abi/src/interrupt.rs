//! The flag that stops a long call.

use std::sync::atomic::{AtomicU32, Ordering};

use abi_stable::{StableAbi, std_types::RArc};

use crate::Code;

/// A flag that the host sets from another thread to stop a long call. Poll it where that is cheap, and return
/// [`Code::CANCELLED`].
#[repr(transparent)]
#[derive(StableAbi, Clone)]
pub struct Interrupt(RArc<AtomicU32>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(RArc::new(AtomicU32::new(0)))
    }
}

impl Interrupt {
    /// `[any thread]` Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// `[any thread]` Whether to go on.
    ///
    /// # Errors
    /// [`Code::CANCELLED`] if the call has to stop: clean up and return this error.
    pub fn check(&self) -> Result<(), Code> {
        match self.is_set() {
            true => Err(Code::CANCELLED),
            false => Ok(()),
        }
    }

    /// `[any thread]` The flag itself, for code that is not Rust. It lives as long as any clone of this.
    pub fn flag(&self) -> &AtomicU32 {
        &self.0
    }

    /// `[any thread]` For the host: asks the call to stop, or takes that back.
    pub fn set(&self, stop: bool) {
        self.0.store(stop.into(), Ordering::Relaxed);
    }
}
