//! Compiles plugins in C.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::artifacts;

/// The flags that `.ci/workspace.py` compiles plugins in C with.
const FLAGS: [&str; 8] = [
    "-shared",
    "-fPIC",
    "-O2",
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
];

/// The shared library of a plugin in C: `ngram`, or a source in `tests/fixtures/c` by its name. It is compiled anew, which takes
/// a moment.
pub fn c_library(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = match name {
        "ngram" => root.join("plugins/ngram-c/ngram.c"),
        fixture => root.join(format!("tests/fixtures/c/{fixture}.c")),
    };
    let folder = artifacts().tenon.with_file_name("c");
    fs::create_dir_all(&folder).expect("a folder");
    let new = folder.join(format!("{name}.{}", process::id()));
    let status = Command::new("cc")
        .args(FLAGS)
        .arg("-I")
        .arg(root.join("plugin-api/include"))
        .arg(&source)
        .args(["-lm", "-o"])
        .arg(&new)
        .status();
    let compiled = status.expect("cc starts").success();
    assert!(compiled, "{} does not compile", source.display());
    // Other tests may compile the same plugin at the same time, so the library appears by rename.
    let library = folder.join(format!("{name}.so"));
    fs::rename(new, &library).expect("a new name");
    library
}
