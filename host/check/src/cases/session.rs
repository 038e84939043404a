//! Sessions as a whole.

use tenon_plugin_api::{
    Code, SessionArgs, SessionInfo,
    testing::{Driver, Part},
};

use crate::{
    finding::{Checked, Finding, ensure},
    running::{Running, agreement, args, same, session},
    subject::Subject,
};

pub fn grants_in_bounds(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let mut granted = Vec::new();
    for (max_sequences, max_batch_tokens) in [(1, 16), (2, 64), (6, 32)] {
        let args = SessionArgs {
            max_sequences,
            max_batch_tokens,
            kv_tokens: max_sequences * 256,
            ..args()
        };
        let mut driver = session(&running.model, &args)?;
        use_all(&mut running, &mut driver)?;
        granted.push(format!(
            "{} of {max_sequences}",
            driver.info().max_sequences
        ));
    }
    Ok(format!("sequences are granted: {}", granted.join(", ")))
}

/// Fills a batch and its rows in the last sequence.
fn use_all(running: &mut Running, driver: &mut Driver) -> Checked<()> {
    let info: SessionInfo = *driver.info();
    let fits = [info.max_batch_tokens, info.context_length, info.kv_tokens];
    let len = fits.into_iter().min().unwrap_or_default().min(512);
    let tokens = running.tokens(len as usize);
    let part = Part {
        seq: info.max_sequences.min(64) - 1,
        tokens: &tokens,
        rows: info.max_rows.min(len),
    };
    let used = driver.append(&[part]);
    used.map(drop).map_err(|error| {
        Finding::failed(format!(
            "a batch of {len} tokens for sequence {} is within what was granted and fails ({error}): grant less, or make room",
            part.seq
        ))
    })
}

pub fn outlives_model(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let tokens = running.tokens(9);
    let expected = running.alone(0, &tokens)?;
    let Running {
        mut driver, model, ..
    } = running;
    drop(model);
    let found = driver.append(&[Part::with_all_rows(0, &tokens)]);
    let found = found.map_err(|error| {
        Finding::failed(format!(
            "a session fails once its model is dropped ({error}): let it own what it needs"
        ))
    })?;
    let worst = same("after the model is dropped", &expected, &found[0])?;
    Ok(agreement(worst))
}

pub fn kv_stats(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 2)?;
    let total = running.driver.session().kv_stats().total_tokens;
    if total == 0 {
        return Err(Finding::skipped("it does not say how full its pool is"));
    }
    let tokens = running.tokens(25);
    let nothing = used(&mut running, "with empty sequences", 0)?;
    ensure(nothing == 0, || {
        format!("{nothing} tokens are said to be stored before any was computed")
    })?;
    running.driver.prompt(0, &tokens[..20])?;
    let one = used(&mut running, "with 20 stored tokens", 20)?;
    match running.driver.fork(0, 1, 20) {
        Err(error) if error.code == Code::UNSUPPORTED => {}
        forked => {
            forked?;
            let shared = used(&mut running, "with a fork of 20 stored tokens", 20)?;
            ensure(shared == one, || {
                format!(
                    "a fork changes the use from {one} to {shared} tokens: count shared ones once"
                )
            })?;
        }
    }
    running.driver.prompt(1, &tokens[20..])?;
    let two = used(&mut running, "with 5 tokens more", 25)?;
    running.driver.free(1);
    let again = used(&mut running, "once these are freed", 20)?;
    ensure(one < two && again < two, || {
        format!("the use goes from {one} to {two} and {again} tokens as 5 are stored and freed")
    })?;
    running.driver.free(0);
    let left = used(&mut running, "once all is freed", 0)?;
    ensure(left == 0, || {
        format!("{left} tokens are said to be stored after all were freed")
    })?;
    Ok(format!("20 tokens use {one} of {total}"))
}

/// The reported use of the pool, which is at least what is stored and at most the pool.
fn used(running: &mut Running, when: &str, stored: u32) -> Checked<u32> {
    let stats = running.driver.session().kv_stats();
    let (used, total) = (stats.used_tokens, stats.total_tokens);
    ensure((stored..=total).contains(&used), || {
        format!("{when}, {used} of {total} tokens are said to be stored")
    })?;
    Ok(used)
}
