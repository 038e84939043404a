//! The message about a plugin that was built against an ABI that this host does not take.

use std::fmt;

use tenon_plugin_api::abi::{AbiVersion, LayoutMismatch};

/// A plugin of another ABI. The text ends a sentence that begins with the file's name.
#[derive(Debug)]
pub struct OtherAbi {
    /// Name and version of the crate that the library was built from. Empty if it does not say.
    pub built_from: String,
    /// Major and minor version of its ABI, such as `2.1`.
    pub abi: String,
    /// The first difference between its types and those of the host. None for a library in C, whose tables do not describe types.
    pub mismatch: Option<LayoutMismatch>,
}

impl fmt::Display for OtherAbi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.built_from.is_empty() {
            write!(f, "({}) ", self.built_from)?;
        }
        let major = AbiVersion::CURRENT.major;
        write!(
            f,
            "was built against plugin ABI {}, this host takes ABI {major}.0 to {major}.x",
            self.abi
        )?;
        if let Some(LayoutMismatch {
            first_difference, ..
        }) = &self.mismatch
        {
            write!(f, ", and they differ at {first_difference}")?;
        }
        write!(f, ": {}", self.advice())
    }
}

impl OtherAbi {
    /// The advice at the end of the message.
    fn advice(&self) -> String {
        let AbiVersion { major, minor } = AbiVersion::CURRENT;
        let mut numbers = self.abi.split('.').map(|n| n.parse().unwrap_or(0));
        let theirs = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let update = match theirs > (major, minor) {
            true => "update Tenon, or ",
            false => "",
        };
        let with = match self.mismatch {
            Some(_) => "tenon-plugin-api",
            None => "the tenon_plugin.h of ABI",
        };
        format!("{update}build the plugin with {with} {major}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(built_from: &str, abi: &str, first_difference: Option<&str>, expected: &str) {
        let mismatch = first_difference.map(|first| LayoutMismatch {
            first_difference: first.into(),
            report: "many\nlines".into(),
        });
        let told = OtherAbi {
            built_from: built_from.into(),
            abi: abi.into(),
            mismatch,
        };
        assert_eq!(told.to_string(), expected);
    }

    #[test]
    fn all_that_is_known_is_said_in_one_line() {
        check(
            "tiny-rwkv 0.3.1",
            "2.1",
            Some("`A.b` (B): expected u32, found u64"),
            "(tiny-rwkv 0.3.1) was built against plugin ABI 2.1, this host takes ABI 1.0 to 1.x, and they differ at `A.b` (B): \
             expected u32, found u64: update Tenon, or build the plugin with tenon-plugin-api 1",
        );
        check(
            "",
            "0.9",
            None,
            "was built against plugin ABI 0.9, this host takes ABI 1.0 to 1.x: build the plugin with the tenon_plugin.h of ABI 1",
        );
    }

    #[test]
    fn a_newer_plugin_needs_a_newer_host() {
        let is_newer = |abi: &str| {
            let told = OtherAbi {
                built_from: String::new(),
                abi: abi.into(),
                mismatch: None,
            };
            told.advice().starts_with("update Tenon, or ")
        };
        assert!(is_newer("1.7") && is_newer("2.0") && is_newer("10.1"));
        assert!(!is_newer("1.0") && !is_newer("0.9") && !is_newer("?"));
    }
}
