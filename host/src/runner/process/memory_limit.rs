//! Limits the memory of workers: by a control group for each where the server may make groups, otherwise by a limit that the
//! worker sets itself.

use std::sync::{
    Once,
    atomic::{AtomicU64, Ordering},
};

use tracing::{info, warn};

use crate::system::cgroup::{self, Cgroup, Delegated};

/// Bytes that a worker may allocate besides its model: for the vocabulary, grammars and the stacks of threads.
const OWN_BYTES: u64 = 1 << 30;

/// The memory limit of a worker.
pub struct MemoryLimit {
    /// The `memory_limit_bytes` of its model.
    configured: u64,
    /// None: the worker limits itself.
    group: Option<Cgroup>,
}

impl MemoryLimit {
    /// The limit of a worker whose model has this `memory_limit_bytes`.
    pub fn new(configured: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let make = |groups: &Delegated| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let child = groups.child(&format!("worker-{number}"), whole(configured));
            let warn = |error: &_| warn!("a worker gets no cgroup of its own: {error}");
            child.inspect_err(warn).ok()
        };
        Self {
            configured,
            group: delegated().and_then(make),
        }
    }

    /// Puts the worker's process under the limit. Returns the bytes that it has to limit itself to, if it has to.
    pub fn apply(&mut self, process: Option<u32>) -> Option<u64> {
        let added = self.group.as_ref().zip(process);
        if added.is_some_and(|(group, process)| group.add(process).is_ok()) {
            return None;
        }
        self.group = None;
        Some(whole(self.configured))
    }

    /// Why the kernel ended the worker, if it was for its memory.
    pub fn exceeded(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        let limit = self.configured;
        group.ran_out_of_memory().then(|| {
            format!("it took more memory than its memory_limit_bytes of {limit} allows: raise that, or choose a smaller level (quantize)")
        })
    }
}

/// The limit of the whole process.
fn whole(configured: u64) -> u64 {
    configured.saturating_add(OWN_BYTES)
}

/// The group below which groups for workers can be made. The first call logs whether groups or processes have the limits.
fn delegated() -> Option<&'static Delegated> {
    static TOLD: Once = Once::new();
    let groups = cgroup::of_process();
    TOLD.call_once(|| match groups {
        Ok(groups) => info!(
            "memory_limit_bytes is kept by cgroups below {}",
            groups.path().display()
        ),
        Err(why) => {
            info!("memory_limit_bytes is kept by limits of processes (RLIMIT_DATA), because {why}");
        }
    });
    groups.ok()
}
