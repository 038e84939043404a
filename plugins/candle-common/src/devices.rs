//! Devices under the names that configuration uses.

#[cfg(feature = "cuda")]
mod cuda;

use tenon_plugin_api::{Device, Error, Result};

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    /// By CUDA's number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

/// The GPUs that the plugin was built for, and the CPU.
pub fn list() -> Vec<Device> {
    let describe = |place: Place| match place {
        Place::Cpu => Device {
            id: place.id(),
            name: "CPU".into(),
            ..Device::default()
        },
        #[cfg(feature = "cuda")]
        Place::Cuda(number) => cuda::describe(number, place.id()),
    };
    places().into_iter().map(describe).collect()
}

impl Place {
    /// The one among `ids`. Without any: a GPU if there is one.
    ///
    /// # Errors
    /// `INVALID` for a device that does not exist, with those that do, and for more than one.
    pub fn choose(ids: &[String]) -> Result<Self> {
        let places = places();
        match ids {
            [] => Ok(places.first().copied().unwrap_or(Self::Cpu)),
            [wanted] => {
                let found = places.iter().find(|place| place.id() == *wanted);
                found.copied().ok_or_else(|| {
                    let known: Vec<_> = places.iter().map(Self::id).collect();
                    let known = known.join(", ");
                    Error::invalid(format!(
                        "there is no device {wanted:?}: choose from {known}"
                    ))
                })
            }
            several => Err(Error::invalid(format!(
                "the devices {}: this backend computes a model on one device, choose one",
                several.join(", ")
            ))),
        }
    }

    /// As configuration names it.
    pub fn id(&self) -> String {
        match self {
            Self::Cpu => "cpu".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// The fastest first.
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
