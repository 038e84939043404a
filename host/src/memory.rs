//! Memory that was freed, back to the system.

/// Gives back what nobody uses. The C library keeps what was freed in small pieces: of a model that is gone, and of making
/// one, that can be a good part of the model's size. Holds up whoever allocates for a moment.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes no pointers, and what somebody uses stays where it is.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
