//! Figures and states in words.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::models::{ModelState, ServedModel};

/// The state of a model, whether it is as it should be, and the level that the model is at.
pub fn state(served: &ServedModel) -> (String, bool, String) {
    let demand = match served.loads_on_request() {
        true => "; a request loads it",
        false => "",
    };
    match served.state() {
        ModelState::Loading => ("is being loaded".to_owned(), true, String::new()),
        ModelState::Ready(model) => {
            let level = model.facts().info.quantization.clone();
            ("answers".to_owned(), true, level)
        }
        ModelState::Unloaded(None) => (format!("is not loaded{demand}"), true, String::new()),
        ModelState::Unloaded(Some(why)) => (
            format!("could not be loaded: {why}{demand}"),
            false,
            String::new(),
        ),
        ModelState::Restarting(why) => (format!("is started again: {why}"), false, String::new()),
        ModelState::Failed(why) => (format!("failed: {why}"), false, String::new()),
    }
}

/// An age in its two largest units: `3 d 4 h`, `2 min 5 s`, `0 s`.
pub fn age(age: Duration) -> String {
    let secs = age.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A size in MiB or GiB.
pub fn bytes(bytes: Option<u64>) -> String {
    let mib = bytes.map(|bytes| bytes as f64 / 1_048_576.0);
    match mib {
        None => "unknown".to_owned(),
        Some(mib) if mib < 1024.0 => format!("{mib:.0} MiB"),
        Some(mib) => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// A number with one decimal below 10, and with none from 10 on.
pub fn number(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        0.0..10.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A part of a whole.
pub fn share(part: f64, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{:.0} %", 100.0 * part / whole),
        false => String::new(),
    }
}

/// A time in UTC, to the second.
pub fn time(time: SystemTime) -> String {
    // Only times that are thousands of years away are out of range.
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (secs, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (125, "2 min 5 s"),
            (3_720, "1 h 2 min"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(age(Duration::from_secs(secs)), expected);
        }
        assert_eq!(bytes(Some(200 << 20)), "200 MiB");
        assert_eq!(bytes(Some(3 << 29)), "1.5 GiB");
        assert_eq!([0.0, 0.25, 12.6].map(number), ["0", "0.2", "13"]);
        assert_eq!(
            (share(1.0, 4.0), share(0.0, 0.0)),
            ("25 %".to_owned(), String::new())
        );
        assert_eq!(time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
