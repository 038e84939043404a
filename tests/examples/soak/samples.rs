//! Samples of memory, descriptors and times, and whether they stay flat.

use std::time::Duration;

use tenon_tests::Held;

/// Number of samples of a run.
pub const COUNT: u32 = 20;
/// By how much the memory of the last quarter of a run may exceed that of the second. Only some samples see the memory that a change
/// of the level needs for a moment.
const MEMORY: f64 = 1.15;
/// By how much times may grow. A busy machine makes some of them longer.
const TIME: f64 = 2.0;

/// A sample.
pub struct Sample {
    /// The 99th percentile of the times to the first piece since the last sample.
    pub p99: Duration,
    pub held: Held,
}

/// The figures that grew from the second quarter of a run to the last one, in words.
pub fn growth(samples: &[Sample]) -> Vec<String> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return vec!["there are not enough samples to tell".to_owned()];
    }
    let early = &samples[quarter..2 * quarter];
    let late = &samples[samples.len() - quarter..];
    // Memory that is never given back is part of every sample, so the least sample counts.
    let memory = |part: &[Sample]| {
        let held = part.iter().map(|sample| sample.held.resident_mb);
        held.min().unwrap_or_default() as f64
    };
    let time = |part: &[Sample]| {
        let mut times: Vec<_> = part.iter().map(|sample| sample.p99).collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    };
    let measured = [
        ("memory, MB", memory(early), memory(late), MEMORY),
        ("p99 of the first piece, ms", time(early), time(late), TIME),
    ];
    let grew = measured
        .into_iter()
        .filter(|(_, early, late, most)| late > &(early * most));
    grew.map(|(what, early, late, _)| {
        format!("{what}: {early:.0} in the second quarter, {late:.0} in the last")
    })
    .collect()
}
