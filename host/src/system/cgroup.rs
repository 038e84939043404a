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

/// Where the groups are.
const ROOT: &str = "/sys/fs/cgroup";
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
    Delegated::prepare(&own()?)
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
    check_controller(&own)?;
    let control = own.join("cgroup.subtree_control");
    let writable = fs::OpenOptions::new().write(true).open(control);
    writable
        .map(drop)
        .map_err(|error| not_delegated(&own, &error))
}

fn check_controller(group: &Path) -> Result<(), String> {
    let shown = group.display();
    let controllers = fs::read_to_string(group.join("cgroup.controllers"));
    let controllers = controllers.map_err(|error| format!("{shown} cannot be read ({error})"))?;
    match controllers.split_whitespace().any(|name| name == "memory") {
        true => Ok(()),
        false => Err(format!("{shown} has no memory controller")),
    }
}

fn not_delegated(group: &Path, error: &io::Error) -> String {
    format!(
        "{} is not delegated to the server ({error})",
        group.display()
    )
}

impl Delegated {
    fn prepare(own: &Path) -> Result<Self, String> {
        check_controller(own)?;
        let delegated = Self(own.to_owned());
        let limits = delegated.limit_children();
        limits.map_err(|error| not_delegated(own, &error))?;
        Ok(delegated)
    }

    /// Where the group is.
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

    /// Turns on memory limits for the groups below this one.
    fn limit_children(&self) -> io::Result<()> {
        let switch_on = || fs::write(self.0.join("cgroup.subtree_control"), "+memory");
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
mod tests {
    use super::*;

    /// A folder that looks like a group with these controllers.
    fn group(controllers: &str) -> tempfile::TempDir {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("cgroup.controllers"), controllers).unwrap();
        group
    }

    #[test]
    fn a_group_without_the_memory_controller_is_not_used() {
        let group = group("cpu io memory_other\n");
        let why = Delegated::prepare(group.path()).unwrap_err();
        assert!(why.contains("has no memory controller"), "{why}");
        let why = Delegated::prepare(&group.path().join("missing")).unwrap_err();
        assert!(why.contains("cannot be read"), "{why}");
    }

    #[test]
    fn only_the_children_of_this_process_are_moved() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let [from, to] = [(); 2].map(|()| group("memory"));
        let procs = |group: &tempfile::TempDir| group.path().join("cgroup.procs");
        let all = format!("1\n{}\n{}\n", child.id(), process::id());
        fs::write(procs(&from), all).unwrap();
        move_children(from.path(), to.path());
        let moved = fs::read_to_string(procs(&to)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The last one that was written.
        assert_eq!(moved, child.id().to_string());
    }

    #[test]
    fn a_child_gets_its_limit_and_tells_how_it_ended() {
        let group = group("cpu memory\n");
        let delegated = Delegated::prepare(group.path()).unwrap();
        let read = |name: &str| fs::read_to_string(group.path().join(name)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory");
        let child = delegated.child("worker", 4096).unwrap();
        child.add(7).unwrap();
        assert_eq!(read("worker/memory.max"), "4096");
        assert_eq!(read("worker/cgroup.procs"), "7");
        assert!(!child.ran_out_of_memory());
        let events = group.path().join("worker/memory.events");
        fs::write(&events, "low 0\noom 0\noom_kill 0\n").unwrap();
        assert!(!child.ran_out_of_memory());
        fs::write(&events, "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(child.ran_out_of_memory());
    }
}
