//! Packages of other languages, which some tests need.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder with the packages of a language (`python`, `node`), which its script `setup` fills.
pub fn packages(language: &str) -> PathBuf {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(language)
        .join("setup");
    let output = Command::new(setup).stderr(Stdio::inherit()).output();
    let output = output.expect("the setup starts");
    assert!(
        output.status.success(),
        "the setup of {language}: {}",
        output.status
    );
    let path = String::from_utf8(output.stdout).expect("a path");
    path.trim_end().into()
}

/// Whether Node is installed. CI does not accept that it is not.
pub fn has_node() -> bool {
    let is_there = Command::new("node").arg("--version").output().is_ok();
    if !is_there {
        assert!(env::var_os("CI").is_none(), "node is not installed");
        eprintln!("skipped: node is not installed (.ci/setup --ci installs it)");
    }
    is_there
}
