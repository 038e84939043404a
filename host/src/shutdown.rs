//! The end of the process: once politely, then at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

/// Waits for Ctrl-C or SIGTERM. A second one ends the process without waiting for anything.
pub async fn requested() {
    stop_signal().await;
    info!("stopping: running requests may finish; stop again to end at once");
    tokio::spawn(async {
        stop_signal().await;
        warn!("stopped at once");
        exit_now(130);
    });
}

/// Becomes true at Ctrl-C or SIGTERM, for work without a runtime. A second one ends the process.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let flag = Arc::new(AtomicBool::new(false));
    let requested = flag.clone();
    let wait = async move {
        stop_signal().await;
        requested.store(true, Ordering::Relaxed);
        stop_signal().await;
        exit_now(130)
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(wait))?;
    Ok(flag)
}

/// A file that grows beyond its limit (`ulimit -f`) is an error for who writes it, not the end of the process.
pub fn too_large_files_are_errors() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of ours.
    match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends the process without running destructors of libraries: a model thread may still be computing in one.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

async fn stop_signal() {
    tokio::select! {
        () = received(SignalKind::interrupt()) => {}
        () = received(SignalKind::terminate()) => {}
    }
}

async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            warn!("cannot listen to a signal ({error}): only SIGKILL stops this process");
            std::future::pending().await
        }
    }
}
