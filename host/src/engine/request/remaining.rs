//! Serializes a deadline as the time that remains until then, because the clocks of two processes need not agree.

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes the time from now to the deadline. It is zero for a deadline that has passed.
pub fn serialize<S: Serializer>(
    deadline: &Option<Instant>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let now = Instant::now();
    let remaining = deadline.map(|deadline| deadline.saturating_duration_since(now));
    remaining.serialize(serializer)
}

/// Reads the remaining time, and returns the deadline that lies so far ahead. None if the clock does not reach that
/// far.
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Instant>, D::Error> {
    let remaining = Option::<Duration>::deserialize(deserializer)?;
    Ok(remaining.and_then(|remaining| Instant::now().checked_add(remaining)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Crossing(#[serde(with = "super")] Option<Instant>);

    fn received(remaining: Option<Duration>) -> Option<Instant> {
        let frame = postcard::to_stdvec(&remaining).unwrap();
        postcard::from_bytes::<Crossing>(&frame).unwrap().0
    }

    #[test]
    fn the_time_that_remains_begins_anew() {
        let hour = Duration::from_secs(3600);
        let before = Instant::now() + hour;
        let deadline = received(Some(hour)).unwrap();
        assert!(before <= deadline && deadline <= Instant::now() + hour);
    }

    #[test]
    fn a_deadline_that_has_passed_stays_passed() {
        let passed = Crossing(Some(Instant::now()));
        let frame = postcard::to_stdvec(&passed).unwrap();
        assert_eq!(postcard::from_bytes(&frame), Ok(Some(Duration::ZERO)));
        assert!(received(Some(Duration::ZERO)).unwrap() <= Instant::now());
    }

    #[test]
    fn there_may_be_no_deadline() {
        assert_eq!(received(None), None);
        assert_eq!(received(Some(Duration::MAX)), None);
    }
}
