//! Devices, under the names that the configuration uses.

#[cfg(feature = "cuda")]
mod cuda;

use tenon_plugin_api::{Device, Error, Result};

use crate::kernels;

/// The device that a model computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    /// The GPU that CUDA counts under this number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

/// The GPUs that the plugin was built for, and the CPU.
pub fn list() -> Vec<Device> {
    let describe = |place: Place| match place {
        Place::Cpu => Device::new(place.id(), "CPU").with_kernels(kernels::names()),
        #[cfg(feature = "cuda")]
        Place::Cuda(number) => cuda::describe(number, place.id()),
    };
    places().into_iter().map(describe).collect()
}

impl Place {
    /// The device in `ids`. If `ids` is empty: a GPU if there is one, otherwise the CPU.
    ///
    /// # Errors
    /// `INVALID` for a device that does not exist, with the list of those that do; `INVALID` for more than one device.
    pub fn choose(ids: &[String]) -> Result<Self> {
        let places = places();
        match ids {
            [] => Ok(places.first().copied().unwrap_or(Self::Cpu)),
            [wanted] => {
                let found = places.iter().find(|place| place.id() == *wanted);
                found.copied().ok_or_else(|| {
                    let known: Vec<_> = places.iter().map(Self::id).collect();
                    Error::no_device(wanted, &known)
                })
            }
            several => Err(Error::invalid(format!(
                "the devices {}: this backend computes a model on one device, choose one",
                several.join(", ")
            ))),
        }
    }

    /// The name that the configuration uses.
    pub fn id(&self) -> String {
        match self {
            Self::Cpu => "cpu".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// All devices, the fastest first.
fn places() -> Vec<Place> {
    #[cfg(feature = "cuda")]
    let gpus = (0..cuda::count()).map(Place::Cuda);
    #[cfg(not(feature = "cuda"))]
    let gpus = [];
    gpus.into_iter().chain([Place::Cpu]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(ids: &[&str]) -> std::result::Result<String, String> {
        let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
        let place = Place::choose(&ids);
        place.map(|place| place.id()).map_err(|error| error.message)
    }

    #[test]
    fn every_listed_device_can_be_chosen_and_no_other() {
        let listed = list();
        assert_eq!(listed.last().unwrap().id, "cpu");
        assert_eq!(choose(&[]), Ok(listed[0].id.clone()));
        for device in &listed {
            assert_eq!(choose(&[&device.id]), Ok(device.id.clone()));
        }
        let unknown = choose(&["cuda:99"]).unwrap_err();
        assert!(
            unknown.contains("cuda:99") && unknown.contains("cpu"),
            "{unknown}"
        );
        assert!(choose(&["cpu", "cpu"]).unwrap_err().contains("one device"));
    }
}
