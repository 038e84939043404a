//! How many threads can compute at the same time, and the load by other programs.

use serde::Serialize;
use tenon::system::cores;

use super::{
    cpu::CORES,
    read::{count, distinct, numbered, read, value},
};

#[derive(Serialize)]
pub struct ThreadReport {
    /// Cores of the machine, as programs see them.
    pub machine: usize,
    /// Cores without those that share one with another (hyper-threads). None where the system does not say.
    pub physical: Option<usize>,
    /// Cores that this process may run on.
    pub allowed: usize,
    /// Cores that control groups give it. None: no limit.
    pub quota: Option<f64>,
    /// Threads that models compute with if nothing else is configured.
    pub used: u32,
    /// Processes that ran or waited for a core on average during the last minute.
    pub load: f64,
    /// The share of time since the start that the hypervisor gave to others, in percent.
    pub stolen_percent: f64,
    /// Nodes with memory of their own.
    pub numa_nodes: usize,
}

impl ThreadReport {
    pub fn of_machine() -> Self {
        let status = read("/proc/self/status");
        let allowed = value(&status, "Cpus_allowed_list").unwrap_or_default();
        let physical = distinct(&numbered(CORES, "cpu"), "topology/thread_siblings_list").len();
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Self {
            machine: count(&read(format!("{CORES}/online"))),
            physical: (physical > 0).then_some(physical),
            allowed: count(&allowed),
            quota: cores::quota(),
            used: cores::available(),
            load: load.unwrap_or(0.0),
            stolen_percent: stolen_percent(&read("/proc/stat")),
            numa_nodes: numbered("/sys/devices/system/node", "node").len(),
        }
    }
}

/// The share of stolen time. The first line of `/proc/stat` has user, nice, system, idle, iowait, irq, softirq and steal, and then
/// times that are included in these.
fn stolen_percent(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let times = line.split_whitespace().skip(1).take(8);
    let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    let all: f64 = times.iter().sum();
    match times.get(7) {
        Some(stolen) if all > 0.0 => 100.0 * stolen / all,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let stat = "cpu  10 0 10 60 0 0 0 20 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1";
        assert_eq!(stolen_percent(stat), 20.0);
        assert_eq!(stolen_percent(""), 0.0);
    }

    #[test]
    fn a_process_runs_on_some_of_the_cores() {
        let threads = ThreadReport::of_machine();
        assert!(threads.allowed > 0 && threads.allowed <= threads.machine);
        assert!(threads.used as usize <= threads.allowed);
    }
}
