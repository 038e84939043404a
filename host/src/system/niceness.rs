//! Niceness of long work, such as requantizing, so that models can answer meanwhile.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tenon_plugin_api::{Code, Error};

/// The niceness of long work. Beside threads that are always busy, such work gets about a tenth of a core's time.
const NICENESS: i32 = 10;

/// The number of [`LongWork`] values that exist.
static WORK: AtomicUsize = AtomicUsize::new(0);

/// Marks that long work is being done, until this is dropped. Meanwhile running models leave a core free.
pub struct LongWork(());

impl LongWork {
    pub fn begin() -> Self {
        WORK.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether long work is being done.
    pub fn is_there() -> bool {
        WORK.load(Ordering::Relaxed) > 0
    }
}

impl Drop for LongWork {
    fn drop(&mut self) {
        WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lowers the priority of the calling thread, and of the threads that it starts, below that of running models.
pub fn give_way() {
    // On Linux this sets the thread's niceness, not the process's. If it fails, the work only disturbs others more.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Runs `work` on a new thread with low priority (see [`give_way`]) and waits for its result.
///
/// # Errors
/// The errors of `work`; `INTERNAL` if no thread can be started.
pub fn giving_way<R: Send>(work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    let work = || {
        give_way();
        work()
    };
    thread::scope(|scope| {
        let name = "requantizing".to_owned();
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::new(Code::INTERNAL, error.to_string()))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
