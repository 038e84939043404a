//! Devices that could compute beside the CPU.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::read::{numbered, read};

#[derive(Serialize)]
pub struct Gpu {
    pub device: PathBuf,
    /// The kernel's driver, with its version where it says so. Empty if unknown.
    pub driver: String,
}

/// The devices of NVIDIA's driver, and all render nodes.
pub fn all() -> Vec<Gpu> {
    let nvidia = read("/proc/driver/nvidia/version");
    let nvidia = nvidia.lines().next().unwrap_or_default();
    let of_nvidia = numbered("/dev", "nvidia").into_iter().map(|device| Gpu {
        device,
        driver: nvidia.trim_start_matches("NVRM version:").trim().to_owned(),
    });
    let rendering = numbered("/dev/dri", "renderD").into_iter();
    let rendering = rendering.map(|device| Gpu {
        driver: driver_of(&device),
        device,
    });
    of_nvidia.chain(rendering).collect()
}

fn driver_of(device: &Path) -> String {
    let name = device.file_name().unwrap_or_default();
    let described = Path::new("/sys/class/drm").join(name).join("device/uevent");
    let text = read(described);
    let driver = text.lines().find_map(|line| line.strip_prefix("DRIVER="));
    driver.unwrap_or_default().to_owned()
}
