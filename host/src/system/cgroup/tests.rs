use std::{
    io::Write,
    process::{Command, Stdio},
};

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
    let why = Delegated::prepare(group.path(), MEMORY).unwrap_err();
    assert!(why.contains("has no memory controller"), "{why}");
    let why = Delegated::prepare(&group.path().join("missing"), MEMORY).unwrap_err();
    assert!(why.contains("cannot be read"), "{why}");
}

#[test]
fn only_the_children_of_this_process_are_moved() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
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
    let delegated = Delegated::prepare(group.path(), MEMORY).unwrap();
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

/// A real group, made for a test, with this process in it. On drop this process goes back to its former group.
struct RealGroup {
    path: PathBuf,
    former: PathBuf,
    /// Memory, if the system's groups of version 2 have it, else another controller.
    controller: String,
    /// Whether the test switched the controller on for the groups of the system.
    is_switched: bool,
}

impl RealGroup {
    /// The error says why the system allows no such group.
    fn enter() -> Result<Self, String> {
        let root = root().ok_or("no cgroups of version 2 are mounted")?;
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let controllers = read(&root.join("cgroup.controllers"));
        let controllers: Vec<_> = controllers.split_whitespace().collect();
        let memory = controllers.iter().find(|name| **name == MEMORY);
        let controller = memory.or(controllers.first());
        let controller = controller.ok_or("all controllers are used by cgroups of version 1")?;
        let groups = read(Path::new("/proc/self/cgroup"));
        let former = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let mut group = Self {
            path: root.join(format!("tenon-test-{}", process::id())),
            former: root.join(former.unwrap_or_default()),
            controller: (*controller).to_owned(),
            is_switched: false,
        };
        fs::create_dir(&group.path).map_err(|error| format!("no group can be made ({error})"))?;
        group.is_switched = check_controller(&group.path, &group.controller).is_err();
        let switch = format!("+{controller}");
        let switched = fs::write(root.join("cgroup.subtree_control"), switch);
        let entered = switched.and_then(|()| move_into(&group.path, process::id()));
        entered.map_err(|error| format!("the group cannot be used ({error})"))?;
        Ok(group)
    }
}

impl Drop for RealGroup {
    fn drop(&mut self) {
        let _ = move_into(&self.former, process::id());
        let _ = fs::remove_dir(self.path.join(OWN));
        let _ = fs::remove_dir(&self.path);
        if let (true, Some(root)) = (self.is_switched, self.path.parent()) {
            let switch = format!("-{}", self.controller);
            let _ = fs::write(root.join("cgroup.subtree_control"), switch);
        }
    }
}

/// Where cgroups of version 2 are mounted.
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    mounts.find_map(|mut mount| {
        let path = mount.nth(1)?;
        (mount.next() == Some("cgroup2")).then(|| path.into())
    })
}

#[test]
fn the_kernel_limits_the_groups_below_that_of_this_process() {
    let group = match RealGroup::enter() {
        Ok(group) => group,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    // The kernel refuses limits as long as this process and its child are in the group itself.
    let delegated = Delegated::prepare(&group.path, &group.controller);
    let own = fs::read_to_string(group.path.join(OWN).join("cgroup.procs"));
    move_into(&group.former, child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (delegated, own) = (delegated.unwrap(), own.unwrap());
    for process in [process::id(), child.id()] {
        assert!(own.lines().any(|line| line == process.to_string()), "{own}");
    }
    let limited = fs::read_to_string(group.path.join("cgroup.subtree_control")).unwrap();
    assert_eq!(limited.trim(), group.controller);
    match group.controller == MEMORY {
        true => check_limit(&delegated),
        false => eprintln!("skipped: cgroups of version 1 have the memory controller"),
    }
}

/// Checks that a process ends if it takes more memory than its group may.
fn check_limit(delegated: &Delegated) {
    let worker = delegated.child("worker", 32 << 20).unwrap();
    // `tail` keeps a line of 100 MB in memory.
    let script = "read go; head -c 100000000 /dev/zero | tail > /dev/null; echo done";
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    worker.add(shell.id()).unwrap();
    assert!(!worker.ran_out_of_memory());
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(worker.ran_out_of_memory());
}
