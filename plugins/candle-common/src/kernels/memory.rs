//! Memory for weights, keys and values: a mapping of its own, which goes back to the system whole when it is dropped.

use std::{
    io,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use bytemuck::Pod;
use memmap2::MmapMut;

/// A slice of numbers.
pub struct Memory<T> {
    bytes: MmapMut,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Pod> Memory<T> {
    /// So many zeros, in large pages where the system has them: for what is read from one end to the other for every batch. The
    /// CPU fetches ahead only within a page.
    ///
    /// # Errors
    /// The system's, if it has not as much.
    pub fn zeros(len: usize) -> io::Result<Self> {
        let memory = Self::small_pages(len)?;
        // Without large pages it is only slower.
        #[cfg(target_os = "linux")]
        let _ = memory.bytes.advise(memmap2::Advice::HugePage);
        Ok(memory)
    }

    /// So many zeros, which the system gives page by page when they are first written.
    ///
    /// # Errors
    /// The system's, if it has not as much.
    pub fn small_pages(len: usize) -> io::Result<Self> {
        // There is no mapping of nothing.
        let bytes = MmapMut::map_anon((len * size_of::<T>()).max(1))?;
        Ok(Self {
            bytes,
            len,
            numbers: PhantomData,
        })
    }
}

impl<T: Pod> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.bytes[..self.len * size_of::<T>()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_every_size_is_zero_and_keeps_what_is_written() {
        for len in [0, 1, 4096, 5 << 20] {
            let mut memory = Memory::<u16>::zeros(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!(memory.iter().all(|&number| number == 0));
            memory.fill(7);
            assert!(memory.iter().all(|&number| number == 7));
        }
    }
}
