//! Control groups of the kernel (cgroup v2), which limit the memory of child processes.
//!
//! They can be made below the group of this process if that was delegated: its files are writable, and it has the memory
//! controller. systemd does this for services with `Delegate=memory`, and container engines can.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

/// The directory at which cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The controller that limits memory.
const MEMORY: &str = "memory";
/// The group that this process moves into with its children, because a group that limits the groups below it may contain no
/// processes itself.
const OWN: &str = "server";

/// A group below which there can be groups with limits.
#[derive(Debug)]
pub struct Delegated(PathBuf);

/// The group of a child process. It is removed on drop.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

/// The delegated group of this process. The error says why there is none. The first call prepares the group.
pub fn of_process() -> Result<&'static Delegated, &'static str> {
    static OF_PROCESS: LazyLock<Result<Delegated, String>> = LazyLock::new(find);
    OF_PROCESS.as_ref().map_err(String::as_str)
}

fn find() -> Result<Delegated, String> {
    Delegated::prepare(&own()?, MEMORY)
}

/// The group of this process.
fn own() -> Result<PathBuf, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or("this system has no cgroups of version 2")?;
    Ok(Path::new(ROOT).join(own))
}

/// Whether the group of this process seems delegated to it. Changes nothing.
///
/// # Errors
/// Says why it is not.
pub fn seems_delegated() -> Result<(), String> {
    let own = own()?;
    check_controller(&own, MEMORY)?;
    let control = own.join("cgroup.subtree_control");
    let writable = fs::OpenOptions::new().write(true).open(control);
    writable
        .map(drop)
        .map_err(|error| not_delegated(&own, &error))
}

fn check_controller(group: &Path, controller: &str) -> Result<(), String> {
    let shown = group.display();
    let controllers = fs::read_to_string(group.join("cgroup.controllers"));
    let controllers = controllers.map_err(|error| format!("{shown} cannot be read ({error})"))?;
    match controllers
        .split_whitespace()
        .any(|name| name == controller)
    {
        true => Ok(()),
        false => Err(format!("{shown} has no {controller} controller")),
    }
}

fn not_delegated(group: &Path, error: &io::Error) -> String {
    format!(
        "{} is not delegated to the server ({error})",
        group.display()
    )
}

impl Delegated {
    /// Prepares the group of this process, which must have this controller.
    fn prepare(own: &Path, controller: &str) -> Result<Self, String> {
        check_controller(own, controller)?;
        let delegated = Self(own.to_owned());
        let limits = delegated.limit_children(controller);
        limits.map_err(|error| not_delegated(own, &error))?;
        Ok(delegated)
    }

    /// The directory of the group.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a group whose processes together may take this many bytes of memory.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn child(&self, name: &str, bytes: u64) -> io::Result<Cgroup> {
        let path = self.0.join(name);
        fs::create_dir(&path)?;
        let child = Cgroup(path);
        fs::write(child.0.join("memory.max"), bytes.to_string())?;
        // Systems without swap lack this file.
        let _ = fs::write(child.0.join("memory.swap.max"), "0");
        // If memory runs out, all processes of the group are ended together.
        let _ = fs::write(child.0.join("memory.oom.group"), "1");
        Ok(child)
    }

    /// Turns on the limits of a controller for the groups below this one.
    fn limit_children(&self, controller: &str) -> io::Result<()> {
        let switch = format!("+{controller}");
        let switch_on = || fs::write(self.0.join("cgroup.subtree_control"), &switch);
        match switch_on() {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
            done => return done,
        }
        let own = self.0.join(OWN);
        fs::create_dir_all(&own)?;
        // Children that are started from now on begin in the new group.
        move_into(&own, process::id())?;
        move_children(&self.0, &own);
        switch_on().inspect_err(|_| {
            // Processes that are no children are in the group too.
            let _ = move_into(&self.0, process::id());
            move_children(&own, &self.0);
            let _ = fs::remove_dir(&own);
        })
    }
}

impl Cgroup {
    /// Moves a process into the group.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn add(&self, process: u32) -> io::Result<()> {
        move_into(&self.0, process)
    }

    /// Whether the kernel has ended processes of the group because they took more memory than they may.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It fails if a process is still in the group. The group then stays until the server's own group is removed.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Moves the children of this process from one group to another.
fn move_children(from: &Path, to: &Path) {
    let processes = fs::read_to_string(from.join("cgroup.procs")).unwrap_or_default();
    let processes = processes.lines().filter_map(|line| line.parse().ok());
    for child in processes.filter(|&process| parent(process) == Some(process::id())) {
        // An error means that the child has ended.
        let _ = move_into(to, child);
    }
}

/// The parent of a process. None if the process has ended.
fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

fn move_into(group: &Path, process: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process.to_string())
}

#[cfg(test)]
mod tests;
