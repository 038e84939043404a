//! The CPU, and how the system runs it.

use std::{collections::BTreeSet, env::consts::ARCH};

use serde::Serialize;
use tenon::plugin::{self, CpuLevel};

use super::read::{distinct, numbered, read, value};

#[derive(Serialize)]
pub struct CpuReport {
    pub model: String,
    /// Its level by the psABI. None below x86-64-v2, and on other architectures.
    pub level: Option<CpuLevel>,
    /// The features that plugins may ask for.
    pub features: Vec<&'static str>,
    /// Whether a hypervisor runs this machine, and may hide features.
    pub is_virtual: bool,
    /// The frequency governors of its cores. Empty where the system does not say.
    pub governors: BTreeSet<String>,
}

/// Where the cores are described.
pub const CORES: &str = "/sys/devices/system/cpu";

impl CpuReport {
    pub fn of_machine() -> Self {
        let info = read("/proc/cpuinfo");
        let found = plugin::Cpu::detect();
        let flags = value(&info, "flags").unwrap_or_default();
        Self {
            model: value(&info, "model name").unwrap_or_else(|| ARCH.to_owned()),
            level: found.level(),
            features: found.names(),
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
            governors: distinct(&numbered(CORES, "cpu"), "cpufreq/scaling_governor"),
        }
    }
}
