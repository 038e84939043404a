//! What CUDA says about its devices.

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use tenon_plugin_api::Device;

/// None where the driver finds none, or does not start.
pub fn count() -> usize {
    let count = CudaContext::device_count().unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

/// What is not known is left out.
pub fn describe(number: usize, id: String) -> Device {
    let context = CudaContext::new(number).ok();
    let name = context.as_ref().and_then(|context| context.name().ok());
    let memory = context.and_then(|context| context.mem_get_info().ok());
    let (free, total) = memory.unwrap_or_default();
    Device {
        id,
        name: name.unwrap_or_else(|| "a GPU that does not answer".into()),
        memory_bytes: total as u64,
        free_bytes: free as u64,
    }
}
