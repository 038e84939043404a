//! Estimates of memory.

use std::ops::RangeInclusive;

use crate::{
    finding::{Checked, ensure, unless_unsupported},
    measure,
    running::{Running, args},
    subject::{Subject, load_args},
};

/// The factor by which estimate and measurement may differ.
const FACTOR: u64 = 2;
/// A tolerated difference, for the other memory of a process: this share of the weights, within these bounds.
const SLACK_SHARE: u64 = 4;
const SLACK: RangeInclusive<u64> = 16 << 20..=64 << 20;

pub fn near_measured(subject: &Subject) -> Checked {
    let (load, session) = (load_args(subject.model_path()?), args());
    let estimates = subject.backend()?.estimate(&load, &session);
    let estimates = unless_unsupported(estimates)?;
    let before = measure::resident_bytes();
    let mut running = Running::with(subject, &session)?;
    for seq in 0..running.driver.info().max_sequences.min(2) {
        let tokens = running.tokens(100);
        running.driver.prompt(seq, &tokens)?;
    }
    let measured = measure::resident_bytes().saturating_sub(before);
    let granted = running.driver.info();
    let of_cpu = estimates.iter().filter(|estimate| estimate.device == "cpu");
    let estimated: u64 = of_cpu
        .map(|estimate| {
            let kv = estimate
                .kv_bytes_per_token
                .saturating_mul(granted.kv_tokens.into());
            let states = estimate
                .sequence_bytes
                .saturating_mul(granted.max_sequences.into());
            let fixed = estimate.weight_bytes.saturating_add(estimate.compute_bytes);
            fixed.saturating_add(kv).saturating_add(states)
        })
        .fold(0, u64::saturating_add);
    let slack = running.model.info().weight_bytes / SLACK_SHARE;
    let slack = slack.clamp(*SLACK.start(), *SLACK.end());
    let near = |a: u64, b: u64| a <= b.saturating_mul(FACTOR).saturating_add(slack);
    let figures = format!(
        "{} MiB are estimated and {} MiB are used",
        estimated >> 20,
        measured >> 20
    );
    ensure(
        near(estimated, measured) && near(measured, estimated),
        || {
            format!(
                "{figures}: the server decides by the estimate whether a model fits, so correct it"
            )
        },
    )?;
    Ok(figures)
}
