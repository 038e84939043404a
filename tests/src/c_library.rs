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
    let folder = artifacts().tenon.with_file_name("c");
    fs::create_dir_all(&folder).expect("a folder");
    let new = folder.join(format!("{name}.{}", process::id()));
    compile(name, &new, &[]);
    // Another test may compile the same library at the same time.
    let library = folder.join(format!("{name}.so"));
    fs::rename(new, &library).expect("a new name");
    library
}

/// The fixture `brings-library` in this folder, beside the library that it brings.
pub fn c_library_with_its_own(folder: &Path) -> PathBuf {
    compile("step", &folder.join("libfixture-step.so"), &[]);
    let library = folder.join("brings-library.so");
    let search = format!("-L{}", folder.display());
    let flags = [&search, "-lfixture-step", "-Wl,-rpath,$ORIGIN"];
    compile("brings-library", &library, &flags);
    library
}

/// Compiles a source to a library.
fn compile(name: &str, library: &Path, flags: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = match name {
        "ngram" => root.join("plugins/ngram-c/ngram.c"),
        fixture => root.join(format!("tests/fixtures/c/{fixture}.c")),
    };
    let status = Command::new("cc")
        .args(FLAGS)
        .arg("-I")
        .arg(root.join("plugin-api/include"))
        .arg(&source)
        .args(flags)
        .args(["-lm", "-o"])
        .arg(library)
        .status();
    let compiled = status.expect("cc starts").success();
    assert!(compiled, "{} does not compile", source.display());
}
