//! The number of threads that this process can compute with at the same time.

use std::{fs, num::NonZero, path::Path, thread::available_parallelism};

use super::group_paths::{self, Version};

/// The number of cores that the process may use. Respects CPU affinity and the limits of control groups.
pub fn available() -> u32 {
    available_parallelism().map_or(1, NonZero::get) as u32
}

/// Limits a number of threads to the available cores, and gives a warning for the user if that reduces it. Threads wait for
/// each other after every operation, so two threads that share a core hold up all of them.
pub fn limit(asked: u32) -> (u32, Option<String>) {
    let cores = available();
    if asked <= cores {
        return (asked, None);
    }
    let warning = format!(
        "{asked} threads were asked for, but there are {cores} cores: it computes with {cores}, for more would hold each other up"
    );
    (cores, Some(warning))
}

/// The number of cores that the control groups of this process may use, such as 1.5. None without a limit.
pub fn quota() -> Option<f64> {
    let groups = group_paths::of_process("cpu").into_iter();
    let quotas = groups.filter_map(|(version, group)| quota_of(version, &group));
    quotas.reduce(f64::min)
}

fn quota_of(version: Version, group: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let (quota, period) = match version {
        Version::V2 => {
            let max = read("cpu.max")?;
            let (quota, period) = max.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        Version::V1 => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // Without a quota version 2 has the text `max`, and version 1 the number -1.
    let quota: f64 = quota.trim().parse().ok().filter(|quota| *quota > 0.0)?;
    Some(quota / period.trim().parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_of_both_versions_are_read() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        let of = |version| quota_of(version, group.path());
        assert_eq!((of(Version::V1), of(Version::V2)), (None, None));
        write("cpu.max", "max 100000\n");
        write("cpu.cfs_quota_us", "-1\n");
        write("cpu.cfs_period_us", "100000\n");
        assert_eq!((of(Version::V1), of(Version::V2)), (None, None));
        write("cpu.max", "150000 100000\n");
        write("cpu.cfs_quota_us", "50000\n");
        assert_eq!((of(Version::V1), of(Version::V2)), (Some(0.5), Some(1.5)));
    }
}
