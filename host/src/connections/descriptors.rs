//! The limit of open files, and the number of connections that it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors that are kept for other uses: models, libraries, the log, and clients that are refused.
const RESERVED: u64 = 64;

/// Raises the soft limit of open files to the hard limit, as far as the system allows.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("the limit of open files cannot be raised ({error})");
    }
}

/// Limits a number of connections to the available descriptors.
pub fn bounded(wanted: usize) -> usize {
    // None means no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = limit - RESERVED.min(limit / 2);
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if possible < wanted {
        warn!(
            "only {possible} of {wanted} connections (max_connections) are possible: the limit of open files is {limit} (ulimit -n)"
        );
    }
    possible.min(wanted)
}
