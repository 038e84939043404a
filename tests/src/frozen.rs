//! A plugin that is built against another version of the ABI than the workspace has. Its sources are in `tests/fixtures/abi`,
//! with a copy of the ABI crate as it was at 1.0. It is built outside of the workspace.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::artifacts::{artifacts, cargo};

/// The version of the ABI that the plugin is built against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenAbi {
    /// The copy of 1.0.
    First,
    /// A possible 1.1: the copy of 1.0 with one more method in every table, and a use for reserved words.
    Later,
}

impl FrozenAbi {
    /// Its version.
    fn version(self) -> &'static str {
        match self {
            Self::First => "1.0",
            Self::Later => "1.1",
        }
    }

    /// Builds the plugin, which takes a moment if nothing has changed. Processes that ask at the same time wait for each other
    /// at cargo's own lock.
    pub fn plugin(self) -> PathBuf {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (fixtures, frozen) = (repository.join("tests/fixtures/abi"), frozen());
        let root = frozen.join(self.version());
        for sources in ["Cargo.toml", "src"] {
            self.copy(
                &fixtures.join("1.0").join(sources),
                &root.join("abi").join(sources),
            );
        }
        self.copy(&fixtures.join("plugin"), &root.join("plugin"));
        // Every crate in the workspace's lock file was downloaded already. Cargo removes the crates that the plugin does not
        // use.
        let lock = root.join("plugin/Cargo.lock");
        if !lock.exists() {
            fs::copy(repository.join("Cargo.lock"), &lock).expect("a lock file");
        }
        self.build(&root.join("plugin"), &frozen.join("target"))
    }

    fn build(self, folder: &Path, target: &Path) -> PathBuf {
        let mut cargo = cargo();
        cargo
            .args(["build", "--release", "--quiet", "--offline"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(folder);
        if self == Self::Later {
            cargo.args(["--features", "newer"]);
        }
        let status = cargo.status().expect("cargo starts");
        assert!(status.success(), "cargo build: {status}");
        let name = self.version().replace('.', "_");
        target.join(format!("release/libtenon_frozen_plugin_{name}.so"))
    }

    /// Copies a source file, or a folder of them, as they are in this version.
    fn copy(self, from: &Path, to: &Path) {
        if from.is_file() {
            let text = fs::read_to_string(from).expect("a text");
            let text = self.edited(from, text);
            write_if_changed(to, &text).expect("a copy");
            return;
        }
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry").path();
            self.copy(&entry, &to.join(entry.file_name().expect("a name")));
        }
    }

    /// A source file as it is in this version.
    fn edited(self, path: &Path, text: String) -> String {
        let name = path.file_name().and_then(|name| name.to_str());
        match (self, name.expect("a name")) {
            // Both plugins are built in one folder, so their names differ.
            (_, "Cargo.toml") if text.contains("\"tenon-frozen-plugin\"") => {
                let name = format!(
                    "\"tenon-frozen-plugin-{}\"",
                    self.version().replace('.', "-")
                );
                replace(&text, "\"tenon-frozen-plugin\"", &name)
            }
            (Self::First, _) => text,
            (Self::Later, "Cargo.toml") => {
                replace(&text, "version = \"1.0.0\"", "version = \"1.1.0\"")
            }
            (Self::Later, "module.rs") => replace(&text, LAST_FIELD, &[LAST_FIELD, FIELD].concat()),
            (Self::Later, "reserved.rs") => text + WORD,
            (Self::Later, _) => with_methods(&text),
        }
    }
}

/// The last field of the root module in 1.0.
const LAST_FIELD: &str =
    "    pub init: extern \"C\" fn(HostBox, RStr<'_>) -> RResult<BackendBox, ErrorRecord>,\n";
const FIELD: &str = "    /// A function of 1.1.\n    pub later: extern \"C\" fn() -> u32,\n";
const METHOD: &str = "    /// A method of 1.1.\n    fn later(&self) -> u32 {\n        0\n    }\n";
const WORD: &str = "
impl<const N: usize> Reserved<N> {
    /// Words of which 1.1 knows the first.
    pub fn first(word: u64) -> Self {
        let mut words = [0; N];
        words[0] = word;
        Self(words)
    }
}
";

/// Appends a method to every object of a source file.
fn with_methods(text: &str) -> String {
    let mut parts = text.split("#[sabi_trait]\n");
    let mut edited = parts.next().unwrap_or_default().to_owned();
    for object in parts {
        let end = object.find("\n}\n").expect("the end of the trait") + 1;
        let (methods, rest) = object.split_at(end);
        edited.push_str("#[sabi_trait]\n");
        edited.extend([methods, METHOD, rest]);
    }
    edited
}

#[track_caller]
fn replace(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old:?} is not in:\n{text}");
    text.replacen(old, new, 1)
}

/// Writes a file by rename. A file with the same content is left untouched, so that cargo does not compile it again.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = NamedTempFile::new_in(folder)?;
    fs::write(new.path(), text)?;
    new.persist(path)?;
    Ok(())
}

/// A plugin that was once built against this version of the ABI and is kept as a file: the one for this architecture, by the name of its
/// library.
pub fn frozen_binary(abi: FrozenAbi, library: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/abi");
    let binaries = fixtures.join(abi.version()).join("binaries");
    binaries.join(env::consts::ARCH).join(library)
}

/// The folder for sources and builds, in the workspace's build directory.
fn frozen() -> PathBuf {
    let release = artifacts().tenon.parent();
    let target = release.and_then(Path::parent).expect("a build directory");
    target.join("frozen")
}
