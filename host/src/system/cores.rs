//! The number of threads that this process can compute with at the same time.

use std::{num::NonZero, thread::available_parallelism};

/// The number of cores that the process may use. Respects CPU affinity and the limits of control groups.
pub fn available() -> u32 {
    available_parallelism().map_or(1, NonZero::get) as u32
}

/// Limits a number of threads to the available cores, and gives a warning for the user if that reduces it. Threads wait for
/// each other after every operation, so two threads that share a core hold up all of them.
pub fn limit(asked: u32) -> (u32, Option<String>) {
    let cores = available();
    if asked <= cores {
        return (asked, None);
    }
    let warning = format!(
        "{asked} threads were asked for, but there are {cores} cores: it computes with {cores}, for more would hold each other up"
    );
    (cores, Some(warning))
}
