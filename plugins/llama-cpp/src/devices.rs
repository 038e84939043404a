//! Devices of llama.cpp, under the names that the configuration uses.

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use tenon_plugin_api::{Device, Error, Result};

use crate::cpu;

/// The CPU, and the GPUs of the compiled-in backends.
pub fn list() -> Vec<Device> {
    usable().map(describe).collect()
}

fn describe(found: LlamaBackendDevice) -> Device {
    let mut device = Device::new(id(&found), found.description);
    device.memory_bytes = found.memory_total as u64;
    device.free_bytes = found.memory_free as u64;
    match found.device_type {
        LlamaBackendDeviceType::Cpu => device.with_kernels(cpu::compiled_for()),
        _ => device,
    }
}

/// Whether there is any device besides the CPU.
pub fn has_gpu() -> bool {
    usable().any(|device| device.device_type != LlamaBackendDeviceType::Cpu)
}

/// The id of the device that models go to if none is asked for: a GPU if there is one.
pub fn first() -> String {
    let is_gpu = |device: &LlamaBackendDevice| device.device_type != LlamaBackendDeviceType::Cpu;
    let gpu = usable().find(is_gpu);
    gpu.map_or("cpu".into(), |gpu| id(&gpu))
}

/// llama.cpp's indices of the GPUs among `ids`. None of them means: the CPU only.
///
/// # Errors
/// `INVALID` for a device that does not exist, with the list of those that do.
pub fn gpus(ids: &[String]) -> Result<Vec<usize>> {
    let known: Vec<_> = usable().collect();
    let mut gpus = Vec::new();
    for wanted in ids {
        let Some(device) = known.iter().find(|device| id(device) == *wanted) else {
            let names: Vec<_> = known.iter().map(id).collect();
            return Err(Error::no_device(wanted, &names));
        };
        if device.device_type != LlamaBackendDeviceType::Cpu {
            gpus.push(device.index);
        }
    }
    Ok(gpus)
}

/// All devices except accelerators such as BLAS, which work for the CPU and are not chosen by users.
fn usable() -> impl Iterator<Item = LlamaBackendDevice> {
    list_llama_ggml_backend_devices()
        .into_iter()
        .filter(|device| device.device_type != LlamaBackendDeviceType::Accelerator)
}

/// The id in the configuration: `cpu`, or `cuda:0` for llama.cpp's `CUDA0`.
fn id(device: &LlamaBackendDevice) -> String {
    if device.device_type == LlamaBackendDeviceType::Cpu {
        return "cpu".into();
    }
    let name = device.name.to_lowercase();
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match &name[kind.len()..] {
        "" => name,
        number => format!("{kind}:{number}"),
    }
}
