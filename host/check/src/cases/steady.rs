//! Memory, log lines and threads that many steps leave behind.

use tenon_plugin_api::{
    SampleParams, SampleRequest,
    testing::{Driver, Part},
};

use crate::{
    allocations,
    finding::{Checked, Finding, ensure},
    measure,
    running::{Running, args, session},
    subject::Subject,
};

/// Steps before anything is measured, in which buffers get their size.
const WARM: usize = 32;
const STEPS: u64 = 64;
/// Most allocations of all steps together: some buffers still grow.
const GROWING: u64 = STEPS / 4;
/// Sessions that are made and dropped.
const SESSIONS: usize = 8;

/// Decodes two sequences, with greedy and random requests.
fn decode(driver: &mut Driver, steps: usize) -> Checked<()> {
    let mut tokens = [1, 2];
    for _ in 0..steps {
        let sequences = driver.info().max_sequences.min(2);
        let parts = [0, 1].map(|seq| Part {
            seq,
            tokens: std::slice::from_ref(&tokens[seq as usize]),
            rows: 1,
        });
        let parts = &parts[..sequences as usize];
        driver.append(parts)?;
        let mut requests = [SampleRequest::new(0), SampleRequest::new(1)];
        requests[1].params = SampleParams {
            temperature: 1.0,
            top_p: 0.9,
            ..SampleParams::default()
        };
        let picked = driver.sample(&requests[..sequences as usize])?;
        tokens[..picked.len()].copy_from_slice(&picked);
    }
    Ok(())
}

pub fn no_allocation(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    decode(&mut running.driver, WARM)?;
    if !allocations::count() {
        return Err(Finding::skipped(
            "with this C library the allocations of a plugin cannot be counted",
        ));
    }
    decode(&mut running.driver, STEPS as usize)?;
    let count = allocations::counted();
    match count <= GROWING {
        true => Ok(format!("{STEPS} steps allocated {count} times")),
        false => Err(Finding::warning(format!(
            "{STEPS} steps of decoding allocated {count} times: use buffers that stay",
        ))),
    }
}

pub fn no_log(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    decode(&mut running.driver, 4)?;
    let before = (measure::logged_lines(), measure::printed_bytes());
    decode(&mut running.driver, STEPS as usize)?;
    let lines = measure::logged_lines() - before.0;
    let bytes = measure::printed_bytes() - before.1;
    ensure(lines == 0 && bytes == 0, || {
        format!(
            "{STEPS} steps logged {lines} lines and printed {bytes} bytes: log when a model is loaded, not in `forward` and \
             `sample`"
        )
    })?;
    Ok(format!("{STEPS} steps logged and printed nothing"))
}

pub fn no_thread_leak(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    decode(&mut running.driver, 4)?;
    let before = measure::threads();
    for _ in 0..SESSIONS {
        decode(&mut session(&running.model, &args())?, 2)?;
    }
    let left = measure::threads().saturating_sub(before);
    ensure(left < SESSIONS as u64, || {
        format!(
            "{SESSIONS} sessions that were dropped leave {left} threads: end a session's threads in its drop"
        )
    })?;
    Ok(format!("{SESSIONS} dropped sessions leave {left} threads"))
}
