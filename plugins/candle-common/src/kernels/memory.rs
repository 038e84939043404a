//! Memory for weights, keys and values. It is mapped from the operating system and returned as a whole when everything in a
//! mapping is dropped.

use std::{
    cell::Cell,
    io,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
    sync::Arc,
};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapRaw};

/// A slice of numbers.
pub struct Memory<T> {
    start: NonNull<T>,
    len: usize,
    /// Mapping that has the numbers. Nobody else uses this part of it.
    _mapping: Arc<MmapRaw>,
}

// SAFETY: a `Memory` owns its numbers.
unsafe impl<T: Send> Send for Memory<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Memory<T> {}

/// Memory mappings, in large pages where the system has them, filled piece by piece. For data that is read from one end to
/// the other for every batch: the CPU prefetches only within a page, and most matrices are smaller than a large page.
pub struct Arena {
    /// The mapping that still has room, and how many of its bytes are taken.
    open: Cell<Option<(Arc<MmapRaw>, usize)>>,
    large_pages: LargePages,
}

/// When a mapping gets large pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LargePages {
    AtOnce,
    /// In the background, once the mapping is full. To make room for a large page at once, the system moves other pages and
    /// stops the threads that use them, for up to a tenth of a second in measurements.
    Later,
}

/// Smallest mapping of an arena, in bytes. The part that is never written takes no memory.
const MAPPING: usize = 64 << 20;
/// Pieces begin at cache lines.
const LINE: usize = 64;

impl Arena {
    pub fn new(large_pages: LargePages) -> Self {
        Self {
            open: Cell::default(),
            large_pages,
        }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// The system's error if it refuses that much memory.
    pub fn zeros<T: Pod>(&self, len: usize) -> io::Result<Memory<T>> {
        let bytes = (len * size_of::<T>()).next_multiple_of(LINE);
        let (mapping, taken) = match self.open.take() {
            Some((mapping, taken)) if bytes <= mapping.len() - taken => (mapping, taken),
            full => {
                self.close(full);
                (self.open(bytes.max(MAPPING))?, 0)
            }
        };
        self.open.set(Some((Arc::clone(&mapping), taken + bytes)));
        Ok(Memory::new(mapping, taken, len))
    }

    fn open(&self, bytes: usize) -> io::Result<Arc<MmapRaw>> {
        let mapping = MmapMut::map_anon(bytes)?.into();
        if self.large_pages == LargePages::AtOnce {
            ask_for_large_pages(&mapping);
        }
        Ok(Arc::new(mapping))
    }

    fn close(&self, full: Option<(Arc<MmapRaw>, usize)>) {
        if let (Some((mapping, _)), LargePages::Later) = (full, self.large_pages) {
            ask_for_large_pages(&mapping);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.close(self.open.take());
    }
}

/// Errors are ignored: without large pages the model is only slower.
fn ask_for_large_pages(mapping: &MmapRaw) {
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    #[cfg(not(target_os = "linux"))]
    let _ = mapping;
}

impl<T: Pod> Memory<T> {
    /// `len` zeros. The system provides each page when it is first written.
    ///
    /// # Errors
    /// The system's error if it refuses that much memory.
    pub fn zeros(len: usize) -> io::Result<Self> {
        // A mapping cannot be empty.
        let mapping = MmapMut::map_anon((len * size_of::<T>()).max(1))?;
        Ok(Self::new(Arc::new(mapping.into()), 0, len))
    }

    /// The `len` numbers of a mapping from byte `at` on. `at` is a multiple of a cache line.
    fn new(mapping: Arc<MmapRaw>, at: usize, len: usize) -> Self {
        assert!(at.is_multiple_of(LINE) && at + len * size_of::<T>() <= mapping.len());
        const { assert!(align_of::<T>() <= LINE) };
        Self {
            // SAFETY: within the mapping.
            start: unsafe { NonNull::new_unchecked(mapping.as_mut_ptr().add(at).cast()) },
            len,
            _mapping: mapping,
        }
    }
}

impl<T: Pod> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the numbers are in the mapping, as `new` checked; every bit pattern is a valid number; nobody else has
        // them.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut memory: Memory<u16>, len: usize) -> Memory<u16> {
        assert_eq!(memory.len(), len);
        assert!(memory.iter().all(|&number| number == 0));
        memory.fill(7);
        memory
    }

    #[test]
    fn memory_of_every_size_is_zero_and_keeps_what_is_written() {
        let arenas = [LargePages::AtOnce, LargePages::Later].map(Arena::new);
        let mut pieces = Vec::new();
        for len in [0, 1, 4096, 5 << 20, MAPPING, 3] {
            check(Memory::zeros(len).unwrap(), len);
            pieces.extend(
                arenas
                    .iter()
                    .map(|arena| check(arena.zeros(len).unwrap(), len)),
            );
        }
        drop(arenas);
        pieces.remove(1);
        assert!(
            pieces
                .iter()
                .all(|piece| piece.iter().all(|&number| number == 7))
        );
    }
}
