//! The resources of the machine that a server holds, read from `/proc`.

use std::{fmt, fs, ops::Add};

use crate::Server;

/// The resources that processes hold.
#[derive(Clone, Copy, Default)]
pub struct Held {
    /// Resident memory in megabytes.
    pub resident_mb: u64,
    /// Open files, sockets and the like.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Held {
    /// The resources of a server and its workers.
    pub fn by(server: &Server) -> Self {
        let processes = server.processes().into_iter().map(Self::by_process);
        processes.fold(Self::default(), Self::add)
    }

    /// The resources of one process.
    pub fn by_process(process: u32) -> Self {
        let process = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{process}/status")).expect("a process");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        let count = |folder| {
            let entries = fs::read_dir(format!("{process}/{folder}"));
            entries.expect("a process").count()
        };
        Self {
            resident_mb: kib.expect("a number") * 1024 / 1_000_000,
            descriptors: count("fd"),
            threads: count("task"),
        }
    }
}

impl Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            resident_mb: self.resident_mb + other.resident_mb,
            descriptors: self.descriptors + other.descriptors,
            threads: self.threads + other.threads,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            resident_mb,
            descriptors,
            threads,
        } = self;
        write!(f, "{resident_mb} | {descriptors} | {threads}")
    }
}
