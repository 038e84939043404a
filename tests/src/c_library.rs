//! Compiles plugins in C.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::artifacts;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/c");
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
    compile(&source(name), &new, &[]);
    // Another test may compile the same library at the same time.
    let library = folder.join(format!("{name}.so"));
    fs::rename(new, &library).expect("a new name");
    library
}

/// The fixture `brings-library` in this folder, beside the library that it brings.
pub fn c_library_with_its_own(folder: &Path) -> PathBuf {
    compile(&source("step"), &folder.join("libfixture-step.so"), &[]);
    let library = folder.join("brings-library.so");
    let search = format!("-L{}", folder.display());
    let flags = [&search, "-lfixture-step", "-Wl,-rpath,$ORIGIN"];
    compile(&source("brings-library"), &library, &flags);
    library
}

/// The library of a C source, which may include the fixtures. It is compiled in this folder.
pub fn c_library_of(text: &str, folder: &Path) -> PathBuf {
    let source = folder.join("source.c");
    fs::write(&source, text).expect("a source");
    let library = folder.join("source.so");
    let include = format!("-I{FIXTURES}");
    compile(&source, &library, &[&include]);
    library
}

/// The source of a plugin by its name.
fn source(name: &str) -> PathBuf {
    match name {
        "ngram" => Path::new(ROOT).join("plugins/ngram-c/ngram.c"),
        fixture => Path::new(FIXTURES).join(format!("{fixture}.c")),
    }
}

/// Compiles a source to a library.
fn compile(source: &Path, library: &Path, flags: &[&str]) {
    let status = Command::new("cc")
        .args(FLAGS)
        .arg("-I")
        .arg(Path::new(ROOT).join("plugin-api/include"))
        .arg(source)
        .args(flags)
        .args(["-lm", "-o"])
        .arg(library)
        .status();
    let compiled = status.expect("cc starts").success();
    assert!(compiled, "{} does not compile", source.display());
}
