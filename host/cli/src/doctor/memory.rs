//! Memory, its limits, and how the system pages it.

use serde::Serialize;
use tenon::system::free_memory::{self, Limit};

use super::read::{read, value};

#[derive(Serialize)]
pub struct MemoryReport {
    /// Main memory.
    pub bytes: u64,
    pub free_bytes: u64,
    pub swap_bytes: u64,
    pub swapped_bytes: u64,
    /// All that limits this process, the machine first.
    pub limits: Vec<Limit>,
    /// Which mappings get transparent huge pages: `always`, `madvise` or `never`. Empty where the system has none.
    pub huge_pages: String,
}

impl MemoryReport {
    pub fn of_machine() -> Self {
        let info = read("/proc/meminfo");
        let bytes = |name| bytes(&value(&info, name).unwrap_or_default());
        Self {
            bytes: bytes("MemTotal"),
            free_bytes: bytes("MemAvailable"),
            swap_bytes: bytes("SwapTotal"),
            swapped_bytes: bytes("SwapTotal").saturating_sub(bytes("SwapFree")),
            limits: free_memory::limits(),
            huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
        }
    }
}

/// The bytes of a value such as `24689832 kB`. 0 for others.
fn bytes(value: &str) -> u64 {
    let number = value.strip_suffix(" kB").unwrap_or_default();
    number.parse::<u64>().unwrap_or(0) * 1024
}

/// The choice in a text such as `always [madvise] never`.
fn chosen(text: &str) -> String {
    let chosen = text.split(['[', ']']).nth(1);
    chosen.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_among_several_is_read() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen(""), "");
        assert_eq!(bytes("12 kB"), 12 * 1024);
    }
}
