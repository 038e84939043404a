//! Loads a library in a child process first: a constructor that crashes or hangs then ends the child, not the host.
//!
//! The child is this same program, as `tenon plugins probe FILE`. It answers with one marked line on its standard output,
//! so that whatever a plugin prints while it is loaded does no harm.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output},
};

use serde::{Deserialize, Serialize};

use super::load::{LoadError, Plugin};

/// What the child found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Probed {
    pub id: String,
    pub version: String,
    pub abi: String,
}

/// Why a file is not used: the end of a sentence that begins with its name, and what authors want to know on top.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub reason: String,
    pub details: String,
}

/// Long enough for a large library on a slow disk.
const TIMEOUT_SECS: u32 = 10;
const MARKER: &str = "tenon-probe: ";

/// Has a child process load the open file.
pub(super) fn probe(executable: &Path, file: &File) -> Result<Probed, Refusal> {
    let output = run_child(executable, file).map_err(|error| Refusal {
        reason: format!(
            "cannot be tried out, because {} does not start ({error}): check that the file may be executed",
            executable.display()
        ),
        details: String::new(),
    })?;
    read_report(&output.stdout).unwrap_or_else(|| Err(ended_early(&output)))
}

/// The child's part: loads the file, prints what came of it.
pub fn run(path: &Path) -> io::Result<()> {
    // SAFETY: arms the process's timer, nothing else. SIGALRM then ends this process.
    unsafe { libc::alarm(TIMEOUT_SECS) };
    let report = open(path);
    // Whatever the plugin has left on its last line of output is not ours.
    writeln!(
        io::stdout(),
        "\n{MARKER}{}",
        serde_json::to_string(&report)?
    )
}

fn run_child(executable: &Path, file: &File) -> io::Result<Output> {
    // The child gets the open file, not its name, which may have another file by then.
    Command::new(executable)
        .args(["plugins", "probe", "/proc/self/fd/0"])
        .stdin(file.try_clone()?)
        .output()
}

fn open(path: &Path) -> Result<Probed, Refusal> {
    let file = File::open(path).map_err(|error| Refusal {
        reason: format!("cannot be read ({error})"),
        details: String::new(),
    })?;
    let plugin = Plugin::open(file)?;
    let descriptor = plugin.descriptor();
    Ok(Probed {
        id: descriptor.id.clone(),
        version: descriptor.version.clone(),
        abi: plugin.abi().to_string(),
    })
}

fn read_report(stdout: &[u8]) -> Option<Result<Probed, Refusal>> {
    let stdout = String::from_utf8_lossy(stdout);
    let report = stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(MARKER))?;
    serde_json::from_str(report).ok()
}

fn ended_early(output: &Output) -> Refusal {
    let what = match output.status.signal() {
        Some(libc::SIGALRM) => format!("was not loaded within {TIMEOUT_SECS} seconds"),
        Some(_) => format!("crashed while being loaded ({})", output.status),
        None => format!("ended the process while being loaded ({})", output.status),
    };
    Refusal {
        reason: format!("{what}: build the plugin for this machine, or tell its author"),
        details: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self {
            reason: error.to_string(),
            details: error.details().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_prints_does_not_hide_the_report() {
        let stdout = b"ggml: found 1 device\nno newline\xff\ntenon-probe: {\"Ok\":{\"id\":\"a.b\",\"version\":\"1\",\"abi\":\"1.0\"}}\nbye\n";
        assert_eq!(read_report(stdout).unwrap().unwrap().id, "a.b");
        assert!(read_report(b"ggml: found 1 device\n").is_none());
        assert!(read_report(b"tenon-probe: {\n").is_none());
    }
}
