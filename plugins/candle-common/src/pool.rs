//! The threads that compute. Each session has its own threads and installs them while it computes.

mod workers;

use std::{
    cell::RefCell,
    env, iter,
    marker::PhantomData,
    ops::Range,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

use candle_core::utils::barrier_pool;

use crate::kernels::gemm::Target;
pub use workers::Workers;

/// The default busy wait for the next batch, in hundredths of the longest one. After it threads sleep.
pub const DEFAULT_POLL: u32 = 50;
/// Environment variable that candle reads when it makes its thread pool, which some of its kernels use.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// Number of threads that the plugin may use.
static THREADS: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static INSTALLED: RefCell<Option<Arc<Workers>>> = const { RefCell::new(None) };
}

/// Sets how many threads the plugin may use. Call it before anything is computed.
pub fn start(threads: u32) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        THREADS.store(threads.max(1), Ordering::Relaxed);
        let before = env::var_os(CANDLE_THREADS);
        // SAFETY: the host starts plugins one after the other, before it loads models, and nothing in C reads the
        // environment meanwhile. Rust's own readers are locked out.
        unsafe { env::set_var(CANDLE_THREADS, threads.to_string()) };
        barrier_pool();
        // SAFETY: as above.
        unsafe {
            match before {
                Some(before) => env::set_var(CANDLE_THREADS, before),
                None => env::remove_var(CANDLE_THREADS),
            }
        }
    });
}

/// How many threads the plugin may use.
pub fn threads() -> u32 {
    THREADS.load(Ordering::Relaxed)
}

/// The number of threads that `wish` means: 0 means all.
pub fn wanted(wish: u32) -> u32 {
    match wish {
        0 => threads(),
        wish => wish,
    }
}

/// Lets these workers help the calling thread while it runs `compute`.
pub fn install<T>(workers: &Arc<Workers>, compute: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<Workers>>);
    impl Drop for Before {
        fn drop(&mut self) {
            INSTALLED.set(self.0.take());
        }
    }
    let _before = Before(INSTALLED.replace(Some(Arc::clone(workers))));
    compute()
}

/// Runs `work` for each of `0..count`, in no order, and returns when all are done.
pub fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    for_parts(count, |items| items.for_each(&work));
}

/// Runs `work` on ranges that together cover `0..count`, in no order, and returns when all are done.
pub fn for_parts(count: usize, work: impl Fn(Range<usize>) + Sync) {
    let installed = INSTALLED.with_borrow(Clone::clone);
    match installed {
        Some(workers) => workers.run(count, &work),
        None => work(0..count),
    }
}

/// Runs `work` for each of `0..count`, in no order.
///
/// # Errors
/// One of the errors that `work` returned. The other items are run all the same.
pub fn try_for_each<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    first_error(|failed| for_each(count, |item| failed(work(item))))
}

/// Like [`for_each`], but on threads that end with the call and have the priority of the calling thread. For loading and
/// quantizing while sessions compute.
pub fn for_each_apart(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let some = || {
        let items = iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        items.take_while(|&item| item < count).for_each(&work);
    };
    thread::scope(|scope| {
        // A scope waits for its threads, and panics if one of them panicked.
        (1..count.min(threads() as usize)).for_each(|_| {
            // If the system refuses a thread, the others do its part.
            let _ = thread::Builder::new().spawn_scoped(scope, some);
        });
        some();
    });
}

/// Like [`try_for_each`], but on the threads of [`for_each_apart`].
///
/// # Errors
/// As for [`try_for_each`].
pub fn try_for_each_apart<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    first_error(|failed| for_each_apart(count, |item| failed(work(item))))
}

/// Calls `run` with a function that collects results from several threads. Returns the first error.
fn first_error<E: Send>(run: impl FnOnce(&(dyn Fn(Result<(), E>) + Sync))) -> Result<(), E> {
    let first = Mutex::new(None);
    run(&|result| {
        if let Err(error) = result {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error);
        }
    });
    let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
    first.map_or(Ok(()), Err)
}

/// Runs `work(row, its numbers)` for each row of a matrix with rows of `width`.
pub fn for_each_row(rows: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let count = rows.len() / width;
    let shared = SharedRows::new(rows, width);
    // SAFETY: every row is visited once.
    for_each(count, |row| {
        work(row, unsafe { shared.part(row, 0, width) })
    });
}

/// Rows of a matrix that several threads write at once, each thread its own part.
pub struct SharedRows<'a> {
    start: *mut f32,
    len: usize,
    width: usize,
    _rows: PhantomData<&'a mut [f32]>,
}

// SAFETY: callers of `part` promise that parts do not overlap.
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

    /// `len` numbers of a row, from `column` on.
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

    /// The columns from `column` on, as the target of a product. Using it is as unsafe as [`part`](Self::part).
    pub fn target(&self, column: usize) -> Target {
        assert!(column < self.width);
        Target {
            start: self.start.wrapping_add(column),
            stride: self.width,
        }
    }
}
