//! The library and its descriptor.

use std::time::{Duration, Instant};

use crate::{
    finding::{Checked, Finding},
    subject::Subject,
};

/// Longest time that inspecting a plugin should take. The server inspects every plugin when it starts.
const SCAN_TIME: Duration = Duration::from_secs(1);

pub fn abi_agrees(subject: &Subject) -> Checked {
    let plugin = subject.open()?;
    Ok(format!("it was built against ABI {}", plugin.abi()))
}

pub fn unwinds(subject: &Subject) -> Checked {
    subject.sound()?;
    Ok("panics unwind".to_owned())
}

pub fn scan_time(subject: &Subject) -> Checked {
    let begun = Instant::now();
    let backend = subject.backend()?;
    let devices = backend.devices()?;
    if let Some(model) = &subject.model {
        backend.supports(model)?;
    }
    let (taken, count) = (begun.elapsed(), devices.len());
    match taken <= SCAN_TIME {
        true => Ok(format!(
            "it took {} ms and has {count} devices",
            taken.as_millis()
        )),
        false => Err(Finding::warning(format!(
            "it took {:.1} s until its devices were known, and the server does this at each start: leave to `load` what takes long",
            taken.as_secs_f32()
        ))),
    }
}

pub fn id_valid(subject: &Subject) -> Checked {
    let plugin = subject.open()?;
    Ok(format!("it is {}", plugin.descriptor().id))
}
