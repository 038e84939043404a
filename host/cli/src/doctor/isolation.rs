//! The confinement of workers on this system.

use std::process::Command;

use anyhow::Context;
use serde::Serialize;
use tenon::{
    plugin::EXECUTABLE,
    system::{cgroup, sandbox::Sandbox},
};

#[derive(Serialize)]
pub struct IsolationReport {
    /// Restrictions of the sandbox (Landlock, seccomp) that the kernel does not support, a sentence each.
    pub missing: Vec<String>,
    /// Why the sandbox cannot be entered. Models then need `sandbox = "off"`.
    pub error: Option<String>,
    /// Why `memory_limit_bytes` is not enforced by control groups. None if it is.
    pub no_cgroups: Option<String>,
}

impl IsolationReport {
    pub fn of_machine() -> Self {
        let (missing, error) = match missing() {
            Ok(missing) => (missing, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        Self {
            missing,
            error,
            no_cgroups: cgroup::seems_delegated().err(),
        }
    }
}

/// Asks a child process, because no process can leave the sandbox again.
fn missing() -> anyhow::Result<Vec<String>> {
    let child = Command::new(EXECUTABLE)
        .args(["doctor", "--enter-sandbox"])
        .output()
        .context("cannot start itself")?;
    if !child.status.success() {
        let said = String::from_utf8_lossy(&child.stderr);
        anyhow::bail!("{}", said.trim().trim_start_matches("error: "));
    }
    Ok(serde_json::from_slice(&child.stdout)?)
}

/// Enters the sandbox, and prints the sentences about what the kernel does not restrict, as JSON.
pub fn print_missing() -> anyhow::Result<()> {
    let missing = Sandbox::default().enter()?;
    println!("{}", serde_json::to_string(&missing)?);
    Ok(())
}
