//! Reads the small text files in which Linux describes the machine.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The text of a file without the space around it. Empty if it cannot be read.
pub fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// The value of a line such as `name : value` or `name: value`. None if there is no such line.
pub fn value(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name);
    values.next().map(|(_, value)| value.trim().to_owned())
}

/// How many numbers are in a list such as `0-3,8`.
pub fn count(list: &str) -> usize {
    let parts = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some((last + 1).saturating_sub(first))
    });
    parts.sum()
}

/// The entries of a directory whose names are `begin` and a number, sorted.
pub fn numbered(directory: &str, begin: &str) -> BTreeSet<PathBuf> {
    let is_numbered = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(begin).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(is_numbered)
        .collect()
}

/// The distinct texts of a file that each of these directories has.
pub fn distinct(directories: &BTreeSet<PathBuf>, file: &str) -> BTreeSet<String> {
    let texts = directories
        .iter()
        .map(|directory| read(directory.join(file)));
    texts.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_counted() {
        for (list, expected) in [("0", 1), ("0-3", 4), ("0-1,4,6-7", 5), ("", 0), ("3-1", 0)] {
            assert_eq!(count(list), expected, "{list}");
        }
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "model\t\t: 106\nmodel name\t: A CPU: fast\n";
        assert_eq!(value(text, "model name").unwrap(), "A CPU: fast");
        assert_eq!(value(text, "name"), None);
    }
}
