//! The size of the machine's memory, and the allocator of the C library, which host and plugins share.

use std::{fs, io};

/// Bytes of memory of the machine, or of the container if it has less. None if unknown.
pub fn of_machine() -> Option<u64> {
    let container = fs::read_to_string(CONTAINER_LIMIT).ok();
    let container = container.and_then(|text| text.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| bytes_of("MemTotal:", &text));
    container.into_iter().chain(machine).min()
}

/// The memory limit of the container's control group (cgroup v2).
const CONTAINER_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// Resident memory of a process in bytes. None if the process is gone.
pub fn resident_bytes(process_id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    bytes_of("VmRSS:", &status)
}

/// Reads the bytes from a line such as `MemTotal:       24689832 kB`.
pub(super) fn bytes_of(name: &str, text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Lets the kernel end this process rather than its parent if the machine has no memory left.
///
/// # Errors
/// The kernel does not tell or take the value.
pub fn may_be_ended_first() -> io::Result<()> {
    let inherited: i32 = fs::read_to_string(OUT_OF_MEMORY_SCORE)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let score = (inherited + ENDED_FIRST).min(HIGHEST_SCORE);
    fs::write(OUT_OF_MEMORY_SCORE, score.to_string())
}

/// The file of this process's score. When memory runs out, the kernel ends the process whose memory and score are highest together. The
/// score counts in thousandths of the machine's memory.
const OUT_OF_MEMORY_SCORE: &str = "/proc/self/oom_score_adj";
const ENDED_FIRST: i32 = 200;
const HIGHEST_SCORE: i32 = 1000;

/// A number of bytes for people, such as `6.1 GB`.
pub fn shown(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.0} MB", bytes / 1e6),
    }
}

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// The delay of [`give_back_soon`]: long enough for a request to end after its grammar was refused.
const SOON: Duration = Duration::from_secs(1);
/// Size in bytes from which an allocation gets a memory mapping of its own.
#[cfg(target_env = "gnu")]
const LARGE_PIECE: libc::c_int = 1 << 20;

/// Makes the allocator return large allocations to the system as soon as they are freed. By default it keeps them once the
/// weights of a first model were freed, and every change of a model's level leaves some tens of megabytes behind. To be
/// called before anything large is allocated.
#[cfg(target_env = "gnu")]
pub fn do_not_keep_large_pieces() {
    // SAFETY: it takes no pointers. If it fails, the allocator keeps its default.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_PIECE) };
}

/// Returns freed small allocations to the system. After a model was made or dropped they can be a good part of the model's
/// size. Holds up threads that allocate for a moment.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes no pointers, and allocations in use stay where they are.
    unsafe { libc::malloc_trim(0) };
}

/// Bytes that the process has allocated through the C library, modulo 4 GiB: `mallinfo2` with larger counters came with glibc 2.33.
/// 0 where the C library does not say.
#[cfg(target_env = "gnu")]
pub fn in_use_bytes() -> u32 {
    // SAFETY: it takes no pointers and only reads counters.
    let info = unsafe { libc::mallinfo() };
    info.uordblks.wrapping_add(info.hblkhd).cast_unsigned()
}

/// Calls [`give_back`] in a second, for callers that still hold what they are about to free. Calls within that second count
/// as one.
pub fn give_back_soon() {
    static IS_DUE: AtomicBool = AtomicBool::new(false);
    if IS_DUE.swap(true, Ordering::Relaxed) {
        return;
    }
    let later = || {
        thread::sleep(SOON);
        IS_DUE.store(false, Ordering::Relaxed);
        give_back();
    };
    let started = thread::Builder::new().name("memory".into()).spawn(later);
    if started.is_err() {
        IS_DUE.store(false, Ordering::Relaxed);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn in_use_bytes() -> u32 {
    0
}

#[cfg(not(target_env = "gnu"))]
pub fn do_not_keep_large_pieces() {}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_machine_is_read() {
        let text = "MemTotal:       24689832 kB\nMemFree:        21000000 kB\n";
        assert_eq!(bytes_of("MemTotal:", text), Some(24_689_832 * 1024));
        assert_eq!(bytes_of("MemTotal:", "MemFree: 1 kB"), None);
        assert!(of_machine().is_some_and(|bytes| bytes > 1 << 28));
    }

    #[test]
    fn the_memory_of_a_process_is_read() {
        let own = resident_bytes(std::process::id());
        assert!(own.is_some_and(|bytes| bytes > 1 << 18));
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
