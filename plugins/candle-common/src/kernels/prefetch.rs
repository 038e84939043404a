//! Prefetches memory before it is read. The CPU does this itself, but starts again at each page.

/// Prefetches `bytes` bytes. They need not exist.
#[inline]
pub fn prefetch<T>(from: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: this reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_byte_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// Length of a cache line in bytes.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
