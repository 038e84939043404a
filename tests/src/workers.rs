//! The processes in which a server's models run, found through `/proc`.

use std::{fs, path::Path, process::Command, thread, time::Duration, time::Instant};

use crate::{PATIENCE, Server};

impl Server {
    /// The ids of the worker processes that run now.
    pub fn workers(&self) -> Vec<u32> {
        all()
            .filter(|&id| field(id, PARENT) == Some(self.pid()) && is_worker(id))
            .collect()
    }

    /// The id of the only worker.
    pub fn worker(&self) -> u32 {
        match self.workers()[..] {
            [worker] => worker,
            ref workers => panic!("{} workers", workers.len()),
        }
    }

    /// The ids of the server and its workers.
    pub fn processes(&self) -> Vec<u32> {
        [vec![self.pid()], self.workers()].concat()
    }

    /// The id of the worker that has loaded a plugin's library, such as `tenon_plugin_echo`. Waits until there is one.
    pub fn worker_of(&self, library: &str) -> u32 {
        self.worker_with(&format!("lib{library}.so"))
    }

    /// The id of the worker that has loaded this file. Waits until there is one.
    pub fn worker_with(&self, file: &str) -> u32 {
        let end = format!("/{file}");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut workers = self.workers().into_iter();
            if let Some(worker) = workers.find(|&id| of_process(id, "maps").contains(&end)) {
                return worker;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no worker has loaded {file}");
    }
}

/// Kills a process.
pub fn kill(id: u32) {
    signal(id, "-KILL");
}

/// Stops a process, so that it does nothing but exist.
pub fn stop(id: u32) {
    signal(id, "-STOP");
}

fn signal(id: u32, signal: &str) {
    let mut command = Command::new("kill");
    let status = command.args([signal, &id.to_string()]).status();
    assert!(status.expect("kill starts").success());
}

/// Waits until a process has ended, and returns whether it did so in time. It may be a zombie whose parent has not asked for
/// its exit status.
pub fn ends_within(id: u32, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        let state = of_process(id, "stat");
        if state.is_empty() || state.contains(") Z ") {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The ids of the processes of a group. Zombies do not count.
pub fn processes_of(group: u32) -> Vec<u32> {
    let is_zombie = |id| of_process(id, "stat").contains(") Z ");
    let of_group = |id: &u32| field(*id, GROUP) == Some(group) && !is_zombie(*id);
    all().filter(of_group).collect()
}

/// Places of the fields of `/proc/ID/stat` after the command's name in brackets and the state.
const PARENT: usize = 1;
const GROUP: usize = 2;

/// A field of `/proc/ID/stat`. None if the process is gone.
fn field(id: u32, place: usize) -> Option<u32> {
    let stat = of_process(id, "stat");
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(place)?.parse().ok()
}

/// The ids of all processes.
fn all() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether the command of a process is `tenon worker`, without the argument of a trial.
fn is_worker(id: u32) -> bool {
    of_process(id, "cmdline") == "tenon\0worker\0"
}

/// A file about a process. Empty if the process is gone.
fn of_process(id: u32, file: &str) -> String {
    let path = Path::new("/proc").join(id.to_string()).join(file);
    let content = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}
