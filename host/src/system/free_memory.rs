//! The memory that this process can still get: of the machine, of its control groups, and of its own limits.

use std::{fs, path::Path};

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::{
    group_paths::{self, Version},
    memory::bytes_of,
};

/// A limit on memory, and how much of it is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What sets the limit, in words.
    pub of: String,
    /// The limit in bytes.
    pub bytes: u64,
    /// Bytes that can still be taken, including the page cache, which the kernel would reclaim first.
    pub free_bytes: u64,
}

/// All limits on the memory of this process, that of the machine first.
pub fn limits() -> Vec<Limit> {
    let groups = group_paths::of_process("memory").into_iter();
    let of_groups = groups.filter_map(|(version, group)| limit_of(&group, version.files()));
    machine()
        .into_iter()
        .chain(of_groups)
        .chain(of_process())
        .collect()
}

/// The bytes that this process can still get, and what limits them. None if unknown.
pub fn least() -> Option<Limit> {
    limits().into_iter().min_by_key(|limit| limit.free_bytes)
}

/// The machine's main memory and swap.
fn machine() -> Option<Limit> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name| bytes_of(name, &text);
    let swap = |name| of(name).unwrap_or(0);
    Some(Limit {
        of: "the machine".to_owned(),
        bytes: of("MemTotal:")? + swap("SwapTotal:"),
        free_bytes: of("MemAvailable:")? + swap("SwapFree:"),
    })
}

/// The names that a version of control groups gives to its files.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Keys of `memory.stat` for pages that the kernel reclaims first.
    cache: [&'static str; 2],
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

impl Version {
    fn files(self) -> &'static Files {
        match self {
            Self::V1 => &V1,
            Self::V2 => &V2,
        }
    }
}

fn limit_of(group: &Path, files: &Files) -> Option<Limit> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    // Without a limit, version 2 has the text `max`, and version 1 a number that no machine has.
    let bytes = number(files.limit).filter(|bytes| *bytes < 1 << 60)?;
    let stat = read("memory.stat").unwrap_or_default();
    let cache = stat.lines().filter_map(|line| line.split_once(' '));
    let cache = cache.filter(|(name, _)| files.cache.contains(name));
    let cache: u64 = cache
        .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
        .sum();
    let used = number(files.used)?.saturating_sub(cache);
    Some(Limit {
        of: format!("the control group {}", group.display()),
        bytes,
        free_bytes: bytes.saturating_sub(used),
    })
}

/// The limits that a shell (`ulimit`) or a parent has set for this process.
fn of_process() -> Vec<Limit> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limit = |resource, name: &str, used| {
        let bytes = getrlimit(resource).current?;
        let used = bytes_of(used, &status)?;
        Some(Limit {
            of: format!("the process ({name})"),
            bytes,
            free_bytes: bytes.saturating_sub(used),
        })
    };
    let data = limit(Resource::Data, "RLIMIT_DATA", "VmData:");
    let all = limit(Resource::As, "RLIMIT_AS", "VmSize:");
    data.into_iter().chain(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_less_than_what_there_is() {
        let all = limits();
        assert_eq!(all[0].of, "the machine");
        assert!(all.iter().all(|limit| limit.free_bytes <= limit.bytes));
        let least = least().unwrap();
        assert!(least.free_bytes <= all[0].free_bytes && least.free_bytes > 0);
    }

    #[test]
    fn a_group_counts_without_its_page_cache() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        write("memory.current", "700\n");
        write(
            "memory.stat",
            "anon 300\nfile 400\ninactive_file 250\nactive_file 50\n",
        );
        assert_eq!(limit_of(group.path(), &V2), None);
        write("memory.max", "max\n");
        assert_eq!(limit_of(group.path(), &V2), None);
        write("memory.max", "1000\n");
        let limit = limit_of(group.path(), &V2).unwrap();
        assert_eq!((limit.bytes, limit.free_bytes), (1000, 600));
    }
}
