//! How the C library, from which host and plugins have their memory, deals with what was freed.

/// From this size on a piece of memory is a mapping of its own.
#[cfg(target_env = "gnu")]
const LARGE_PIECE: libc::c_int = 1 << 20;

/// Has large pieces of memory go back to the system the moment they are freed. Left alone, the C library takes the freed
/// weights of a first model as a sign to keep such pieces, and every change of a model's level leaves some tens of megabytes
/// behind. Call it before anything large is made.
#[cfg(target_env = "gnu")]
pub fn do_not_keep_large_pieces() {
    // SAFETY: it takes no pointers. If it fails, memory is kept as without it.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_PIECE) };
}

/// Gives back what nobody uses of smaller pieces: of a model that is gone, and of making one, that can be a good part of the
/// model's size. Holds up whoever allocates for a moment.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes no pointers, and what somebody uses stays where it is.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn do_not_keep_large_pieces() {}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
