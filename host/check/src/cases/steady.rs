//! Memory, log lines and threads that many steps leave behind.

use tenon_plugin_api::{
    SampleParams, SampleRequest,
    testing::{Driver, Part},
};

use crate::{
    finding::{Checked, Finding, ensure},
    measure,
    running::{Running, args, session},
    subject::Subject,
};

/// Steps before anything is measured, in which buffers get their size.
const WARM: usize = 32;
const STEPS: u64 = 64;
/// Bytes of the heap that all steps together may take: buffers that grow.
const KEPT: u64 = 16 << 10;
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
    let unknown = || Finding::skipped("this C library does not say how much of the heap is used");
    let mut running = Running::new(subject)?;
    decode(&mut running.driver, WARM)?;
    let before = measure::heap_bytes().ok_or_else(unknown)?;
    decode(&mut running.driver, STEPS as usize)?;
    let after = measure::heap_bytes().ok_or_else(unknown)?;
    let kept = after.saturating_sub(before);
    match kept <= KEPT {
        true => Ok(format!(
            "{STEPS} steps took {kept} bytes (what a step takes and gives back is not seen)"
        )),
        false => Err(Finding::warning(format!(
            "each step of decoding keeps {} bytes of the heap: use buffers that stay",
            kept / STEPS
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
