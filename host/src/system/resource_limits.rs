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

/// Has this process write no core dump. The kernel closes the files of a process after the dump, and writing gigabytes takes longer than
/// anybody who waits for the end of the process should wait.
pub fn no_core_dump() -> io::Result<()> {
    // A limit of 0 holds for files only. With 1, dumps are not piped to a program (`core_pattern`) either, and a file would be too small.
    let most = getrlimit(Resource::Core)
        .maximum
        .map_or(1, |maximum| maximum.min(1));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(Resource::Core, limit)?)
}
