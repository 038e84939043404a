//! Long work beside running models.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tenon_plugin_api::{Code, Error};

/// About a tenth of the time, where those who answer take all they can get.
const NICE: i32 = 10;

/// How much such work there is.
static WORK: AtomicUsize = AtomicUsize::new(0);

/// Long work that is being done, until it is dropped. Running models leave a core to it.
pub struct LongWork(());

impl LongWork {
    pub fn begin() -> Self {
        WORK.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether there is any.
    pub fn is_there() -> bool {
        WORK.load(Ordering::Relaxed) > 0
    }
}

impl Drop for LongWork {
    fn drop(&mut self) {
        WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does it on a thread that gives way to those of running models, and so do the threads that it starts. Blocks meanwhile.
///
/// # Errors
/// Those of `work`; `INTERNAL` where no thread can be started.
pub fn giving_way<R: Send>(work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    let work = || {
        // On Linux this is about the thread, not the process. Where it is not allowed, it is only rude not to.
        let _ = rustix::process::setpriority_process(None, NICE);
        work()
    };
    thread::scope(|scope| {
        let name = "requantizing".to_owned();
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::new(Code::INTERNAL, error.to_string()))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
