//! Builds the workspace: the server and the shared libraries. The tests do not depend on them as crates.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde::Deserialize;

/// Built files of the workspace.
pub struct Artifacts {
    /// The server.
    pub tenon: PathBuf,
    libraries: HashMap<String, PathBuf>,
}

impl Artifacts {
    /// The shared library of a crate, for example `tenon_plugin_echo`.
    pub fn library(&self, name: &str) -> &Path {
        let library = self.libraries.get(name);
        library.unwrap_or_else(|| panic!("{name} is not among {:?}", self.libraries.keys()))
    }
}

/// Builds the workspace, once per process. That takes a moment if nothing has changed. Processes that ask at the same time
/// wait for each other at cargo's own lock.
pub fn artifacts() -> &'static Artifacts {
    static ARTIFACTS: LazyLock<Artifacts> = LazyLock::new(build);
    &ARTIFACTS
}

/// A line of cargo's output that names files. Other lines have other fields.
#[derive(Deserialize)]
struct Message {
    target: Target,
    executable: Option<PathBuf>,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn build() -> Artifacts {
    let mut artifacts = Artifacts {
        tenon: PathBuf::new(),
        libraries: HashMap::new(),
    };
    for Message {
        target,
        executable,
        filenames,
    } in messages()
    {
        let kind = target.kind.first().map(String::as_str);
        match (kind, executable, filenames.into_iter().next()) {
            (Some("bin"), Some(executable), _) if target.name == "tenon" => {
                artifacts.tenon = executable
            }
            (Some("cdylib"), _, Some(library)) => {
                drop(artifacts.libraries.insert(target.name, library))
            }
            _ => {}
        }
    }
    artifacts
}

/// Cargo, without the variables that describe the running test's package. Build scripts such as ring's would run again because
/// of them, and most of the workspace would be compiled again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in env::vars_os() {
        let describes_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        let text = name.to_string_lossy();
        if describes_package
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn messages() -> Vec<Message> {
    let output = cargo()
        .args(["build", "--release", "--workspace", "--quiet"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo build: {}", output.status);
    let lines = output.stdout.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}
