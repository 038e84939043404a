//! The end of the process: the first signal lets requests finish, the second one ends it at once.

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
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{info, warn};

use crate::telemetry;

/// Waits for Ctrl-C or SIGTERM. After that, a second signal ends the process at once.
pub async fn requested() {
    let mut signals = StopSignals::listen();
    signals.next().await;
    info!("stopping: running requests may finish; stop again to end at once");
    tokio::spawn(async move {
        signals.next().await;
        warn!("stopped at once");
        exit_now(130);
    });
}

/// A flag that becomes true at Ctrl-C or SIGTERM, for work without a runtime. A second signal ends the process at once.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let flag = Arc::new(AtomicBool::new(false));
    let requested = flag.clone();
    let wait = async move {
        let mut signals = StopSignals::listen();
        signals.next().await;
        requested.store(true, Ordering::Relaxed);
        signals.next().await;
        exit_now(130)
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(wait))?;
    Ok(flag)
}

/// Signals that would end the process without draining, though their senders mean something else, such as rotated logs.
const IGNORED: [(libc::c_int, &str); 2] = [(libc::SIGUSR1, "SIGUSR1"), (libc::SIGUSR2, "SIGUSR2")];

/// Keeps SIGHUP and the `IGNORED` signals from ending the process.
pub fn ignore_other_signals() -> io::Result<()> {
    ignore(libc::SIGHUP)?;
    IGNORED
        .into_iter()
        .try_for_each(|(signal, _)| ignore(signal))
}

/// Makes a write beyond the file size limit (`ulimit -f`) return an error instead of ending the process.
pub fn too_large_files_are_errors() -> io::Result<()> {
    ignore(libc::SIGXFSZ)
}

fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of ours.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Logs each `IGNORED` signal that arrives. Never returns.
pub async fn log_ignored_signals() {
    let [usr1, usr2] = IGNORED.map(|(number, name)| log_ignored(number, name));
    tokio::join!(usr1, usr2);
}

async fn log_ignored(number: libc::c_int, name: &str) {
    let Some(mut signals) = signals(SignalKind::from_raw(number)) else {
        return;
    };
    while signals.recv().await.is_some() {
        info!(
            "{name} is ignored: SIGTERM stops the server, and SIGHUP reads the configuration again"
        );
    }
}

/// Calls `act` at each SIGHUP. Never returns.
pub async fn at_each_hangup(act: impl Fn()) {
    if let Some(mut signals) = signals(SignalKind::hangup()) {
        while signals.recv().await.is_some() {
            act();
        }
    }
    std::future::pending().await
}

/// Ends the process without running destructors of libraries, because a model thread may still be computing in one.
pub fn exit_now(code: i32) -> ! {
    telemetry::flush();
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Ctrl-C and SIGTERM. The same listener receives the first and the second signal: a second listener would miss a signal that comes
/// before it listens.
struct StopSignals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl StopSignals {
    fn listen() -> Self {
        Self {
            interrupt: signals(SignalKind::interrupt()),
            terminate: signals(SignalKind::terminate()),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
        }
    }
}

async fn received(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn signals(kind: SignalKind) -> Option<Signal> {
    let signals = signal(kind);
    signals
        .inspect_err(|error| {
            warn!("cannot listen to a signal ({error}): only SIGKILL may stop this process");
        })
        .ok()
}
