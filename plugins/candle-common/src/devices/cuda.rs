//! Queries CUDA about its devices.

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use tenon_plugin_api::Device;

/// Number of GPUs; 0 if the driver finds none or does not start.
pub fn count() -> usize {
    let count = CudaContext::device_count().unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

/// Describes a GPU. Unknown facts are left empty.
pub fn describe(number: usize, id: String) -> Device {
    let context = CudaContext::new(number).ok();
    let name = context.as_ref().and_then(|context| context.name().ok());
    let memory = context.and_then(|context| context.mem_get_info().ok());
    let (free, total) = memory.unwrap_or_default();
    let name = name.unwrap_or_else(|| "a GPU that does not answer".into());
    let mut device = Device::new(id, name);
    device.memory_bytes = total as u64;
    device.free_bytes = free as u64;
    device
}
