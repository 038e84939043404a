//! Where the control groups of this process are, of both versions that Linux has.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The version of a control group. The versions have different names for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The groups of this process that may limit it, each followed by its ancestors: the groups of version 1 with `controller`, and
/// those of version 2.
pub fn of_process(controller: &str) -> Vec<(Version, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().filter_map(|line| of_line(line, controller));
    own.flat_map(|(version, root, path)| {
        let above = path
            .ancestors()
            .take_while(|group| group.starts_with(&root));
        above
            .map(|group| (version, group.to_owned()))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// The group of a line such as `4:memory:/a/b`, with the root of its hierarchy. None for other controllers.
fn of_line(line: &str, controller: &str) -> Option<(Version, PathBuf, PathBuf)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let mounted = Path::new("/sys/fs/cgroup");
    let (version, root) = match controllers {
        "" => (Version::V2, mounted.to_owned()),
        _ if controllers.split(',').any(|name| name == controller) => {
            (Version::V1, mounted.join(controller))
        }
        _ => return None,
    };
    let path = root.join(path.trim_start_matches('/'));
    Some((version, root, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_groups_are_found() {
        let path = |line| of_line(line, "memory").map(|(version, _, path)| (version, path));
        let v1 = (Version::V1, "/sys/fs/cgroup/memory/a/b".into());
        assert_eq!(path("4:memory,cpu:/a/b"), Some(v1));
        assert_eq!(
            path("0::/a"),
            Some((Version::V2, "/sys/fs/cgroup/a".into()))
        );
        assert_eq!(path("3:cpuset:/a"), None);
        assert_eq!(path("nonsense"), None);
    }
}
