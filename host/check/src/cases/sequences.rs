//! Forks, truncation and freeing.

use tenon_plugin_api::{Code, UNLIMITED, testing::Part};

use crate::{
    finding::{Checked, Finding, refused, unless_unsupported},
    running::{Running, agreement, same},
    subject::Subject,
};

/// A session whose first sequence stores the first `stored` of some tokens, all of these tokens, and their expected rows.
fn stored(subject: &Subject, stored: usize) -> Checked<(Running, Vec<u32>, Vec<Vec<f32>>)> {
    let mut running = Running::with_sequences(subject, 3)?;
    let tokens = running.tokens(stored + 4);
    let expected = running.alone(2, &tokens)?;
    running.driver.append(&[Part::new(0, &tokens[..stored])])?;
    Ok((running, tokens, expected))
}

pub fn fork_continues(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 20)?;
    let mut lengths = vec![20];
    if running.driver.info().fork_any_len {
        lengths.extend([1, 13]);
    }
    let mut worst = 0.0_f32;
    for len in &lengths {
        unless_unsupported(running.driver.fork(0, 1, *len as u32))?;
        let part = Part::with_all_rows(1, &tokens[*len..]);
        let found = running.driver.append(&[part])?.concat();
        worst = worst.max(same(
            &format!("a fork of {len} tokens"),
            &expected[*len..],
            &found,
        )?);
        running.driver.free(1);
    }
    Ok(format!(
        "forks of {lengths:?} of 20 tokens: {}",
        agreement(worst)
    ))
}

pub fn fork_isolated(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 17)?;
    unless_unsupported(running.driver.fork(0, 1, 17))?;
    let other = running.tokens(3);
    // Source and fork get different tokens, and then the source is freed.
    running.driver.append(&[Part::new(1, &other)])?;
    let source = running
        .driver
        .append(&[Part::with_all_rows(0, &tokens[17..])])?
        .concat();
    let of_source = same("a sequence whose fork goes on", &expected[17..], &source)?;
    running.driver.free(0);
    let all = [&tokens[..17], &other, &tokens[..2]].concat();
    let expected = running.alone(0, &all)?;
    let fork = running
        .driver
        .append(&[Part::with_all_rows(1, &tokens[..2])])?
        .concat();
    let of_fork = same(
        "a fork whose source went on and ended",
        &expected[20..],
        &fork,
    )?;
    Ok(agreement(of_source.max(of_fork)))
}

pub fn fork_refuses(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 12)?;
    running.driver.append(&[Part::new(1, &tokens[..5])])?;
    let forked = running.driver.session().fork(0, 1, 12);
    match forked {
        Err(error) if error.code == Code::UNSUPPORTED => {
            unless_unsupported::<()>(Err(error))?;
        }
        other => refused(
            "a fork to a sequence that stores tokens",
            other,
            Code::INVALID,
        )?,
    }
    let found = running
        .driver
        .append(&[Part::with_all_rows(1, &tokens[5..])])?
        .concat();
    let worst = same("the target of a refused fork", &expected[5..], &found)?;
    Ok(agreement(worst))
}

pub fn truncate_then_same(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 18)?;
    let drafts = running.driver.info().max_rollback.min(3) as usize;
    if drafts == 0 {
        return Err(Finding::skipped("it grants no rollback"));
    }
    let wrong = running.tokens(drafts);
    running.driver.append(&[Part::with_all_rows(0, &wrong)])?;
    unless_unsupported(running.driver.truncate(0, 18))?;
    running.driver.truncate(0, 100)?;
    let found = running
        .driver
        .append(&[Part::with_all_rows(0, &tokens[18..])])?
        .concat();
    let worst = same(
        &format!("after {drafts} tokens were taken back"),
        &expected[18..],
        &found,
    )?;
    Ok(agreement(worst))
}

pub fn truncate_refuses(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 16)?;
    let most = running.driver.info().max_rollback;
    if most >= 16 {
        let any = if most == UNLIMITED {
            "any number of"
        } else {
            "many"
        };
        return Err(Finding::skipped(format!("it takes back {any} tokens")));
    }
    let beyond = running.driver.session().truncate(0, 16 - most - 1);
    refused(
        &format!("to take back {} tokens", most + 1),
        beyond,
        Code::UNSUPPORTED,
    )?;
    let found = running
        .driver
        .append(&[Part::with_all_rows(0, &tokens[16..])])?
        .concat();
    let worst = same("after a refused truncation", &expected[16..], &found)?;
    Ok(agreement(worst))
}

pub fn free_idempotent(subject: &Subject) -> Checked {
    let (mut running, tokens, expected) = stored(subject, 11)?;
    for _ in 0..3 {
        running.driver.free(1);
        running.driver.free(2);
    }
    let part = Part::with_all_rows(0, &tokens[11..]);
    let found = running.driver.append(&[part]).map_err(|error| {
        Finding::failed(format!(
            "after empty sequences were freed, a step fails ({error})"
        ))
    })?;
    let worst = same(
        "beside freed empty sequences",
        &expected[11..],
        &found.concat(),
    )?;
    Ok(agreement(worst))
}

pub fn free_id_reuse(subject: &Subject) -> Checked {
    let (mut running, ..) = stored(subject, 19)?;
    let next = running.tokens(10);
    let expected = running.alone(1, &next)?;
    running.driver.free(0);
    let found = running
        .driver
        .append(&[Part::with_all_rows(0, &next)])
        .map_err(|error| {
            Finding::failed(format!("a freed sequence does not begin anew ({error})"))
        })?;
    let worst = same("a sequence of a freed id", &expected, &found.concat())?;
    Ok(agreement(worst))
}
