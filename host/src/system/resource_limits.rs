//! Limits of what this process may take (`setrlimit`). Processes that it starts inherit them.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lowers a limit of this process for good. A lower limit that it has already stays.
pub fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let inherited = getrlimit(resource).current;
    let most = Some(inherited.map_or(most, |inherited| inherited.min(most)));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, limit)?)
}
