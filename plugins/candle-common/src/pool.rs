//! The threads that compute: candle's own pool, which its quantized kernels use too. A process has one, and its size never
//! changes.

use std::{
    env, iter,
    marker::PhantomData,
    panic::resume_unwind,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ScopedJoinHandle},
};

use candle_core::utils::barrier_pool;

use crate::kernels::gemm::Target;

/// What candle reads when it makes its pool.
const THREADS: &str = "CANDLE_NUM_THREADS";

/// Makes the pool with this many threads, unless it exists. Call it before anything is computed.
pub fn start(threads: u32) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let before = env::var_os(THREADS);
        // SAFETY: the host starts plugins one after the other, before it loads models, and nothing in C reads the
        // environment meanwhile. Rust's own readers are locked out.
        unsafe { env::set_var(THREADS, threads.to_string()) };
        barrier_pool();
        // SAFETY: as above.
        unsafe {
            match before {
                Some(before) => env::set_var(THREADS, before),
                None => env::remove_var(THREADS),
            }
        }
    });
}

/// How many threads there are, the calling one included.
pub fn threads() -> u32 {
    barrier_pool().n_workers() as u32 + 1
}

/// Runs `work` for each of `0..count`, in no order, and returns when all are done.
pub fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    match count {
        0 => {}
        1 => work(0),
        count => barrier_pool().execute_chunked(count, |range| range.for_each(&work)),
    }
}

/// Runs `work` for each of `0..count`, in no order.
///
/// # Errors
/// One of those that `work` gave; the rest is done all the same.
pub fn try_for_each<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let failed = Mutex::new(None);
    for_each(count, |item| {
        if let Err(error) = work(item) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Like [`try_for_each`], but on threads that end with it and have the priority of the calling one. While the pool is busy,
/// whoever computes answers waits for it.
///
/// # Errors
/// As there.
pub fn try_for_each_apart<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let some = || {
        let items = iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        let mut items = items.take_while(|&item| item < count);
        items.try_for_each(&work)
    };
    thread::scope(|scope| {
        let others = 1..count.min(threads() as usize);
        let others: Vec<_> = others.map(|_| scope.spawn(some)).collect();
        let own = some();
        let join = |result: Result<(), E>, other: ScopedJoinHandle<'_, _>| {
            result.and(other.join().unwrap_or_else(|panic| resume_unwind(panic)))
        };
        others.into_iter().fold(own, join)
    })
}

/// Runs `work` for each row of a matrix with rows of `width`: `work(row, its numbers)`.
pub fn for_each_row(rows: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let count = rows.len() / width;
    let shared = SharedRows::new(rows, width);
    // SAFETY: every row is visited once.
    for_each(count, |row| {
        work(row, unsafe { shared.part(row, 0, width) })
    });
}

/// Rows of a matrix that several threads write, each its own part.
pub struct SharedRows<'a> {
    start: *mut f32,
    len: usize,
    width: usize,
    _rows: PhantomData<&'a mut [f32]>,
}

// SAFETY: who takes parts promises that they do not overlap.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    pub fn new(rows: &'a mut [f32], width: usize) -> Self {
        Self {
            start: rows.as_mut_ptr(),
            len: rows.len(),
            width,
            _rows: PhantomData,
        }
    }

    /// `len` numbers of a row from `column` on.
    ///
    /// # Safety
    /// No two parts that exist at the same time overlap.
    #[allow(clippy::mut_from_ref)] // That parts do not overlap is the caller's promise.
    pub unsafe fn part(&self, row: usize, column: usize, len: usize) -> &mut [f32] {
        let at = row * self.width + column;
        assert!(column + len <= self.width && at + len <= self.len);
        // SAFETY: within the matrix, as just checked, and the caller promises that it is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// The columns from `column` on, for a product. Using them is as unsafe as [`part`](Self::part).
    pub fn target(&self, column: usize) -> Target {
        assert!(column < self.width);
        Target {
            start: self.start.wrapping_add(column),
            stride: self.width,
        }
    }
}
