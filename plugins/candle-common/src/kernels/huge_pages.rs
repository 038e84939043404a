//! Memory for weights.

/// `len` times `zero`, in large pages where the system has them: weights are read from one end to the other for every batch,
/// and the CPU fetches ahead only within a page.
pub fn zeros<T: Copy>(zero: T, len: usize) -> Vec<T> {
    let mut memory = Vec::with_capacity(len);
    // Before it is first written, which is when the system gives it.
    advise(memory.spare_capacity_mut());
    memory.resize(len, zero);
    memory
}

#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T]) {
    const PAGE: usize = 4096;
    let from = memory.as_ptr_range().start.addr().next_multiple_of(PAGE);
    let to = memory.as_ptr_range().end.addr() / PAGE * PAGE;
    if from < to {
        let start = memory.as_mut_ptr().with_addr(from);
        // SAFETY: these are whole pages within the slice. What is in them stays; a refusal changes nothing.
        unsafe { libc::madvise(start.cast(), to - from, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_memory: &mut [T]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_every_size_is_zero() {
        for len in [0, 1, 4096, 5 << 20] {
            let zeros = zeros(0u8, len);
            assert_eq!(zeros.len(), len);
            assert!(zeros.iter().all(|&byte| byte == 0));
        }
    }
}
