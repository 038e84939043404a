//! Changes of the number of threads.

use tenon_plugin_api::{Code, ThreadPlan};

use crate::{
    finding::{Checked, refused, unless_unsupported},
    running::{Running, agreement, same},
    subject::Subject,
};

fn plan(decode: u32, prefill: u32) -> ThreadPlan {
    ThreadPlan {
        decode,
        prefill,
        decode_poll: 50,
        prefill_poll: 50,
        ..ThreadPlan::default()
    }
}

pub fn same_result(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let tokens = running.tokens(15);
    let expected = running.alone(0, &tokens)?;
    let mut worst = 0.0_f32;
    for (decode, prefill) in [(1, 1), (1, 2), (2, 2)] {
        let session = running.driver.session();
        unless_unsupported(session.set_threads(plan(decode, prefill)))?;
        let found = running.alone(0, &tokens)?;
        let what = format!("with {decode} and {prefill} threads");
        worst = worst.max(same(&what, &expected, &found)?);
    }
    Ok(agreement(worst))
}

pub fn zero_refused(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let session = running.driver.session();
    unless_unsupported(session.set_threads(plan(1, 1)))?;
    refused(
        "a plan without threads to decode",
        session.set_threads(plan(0, 1)),
        Code::INVALID,
    )?;
    refused(
        "a plan without threads for prompts",
        session.set_threads(plan(1, 0)),
        Code::INVALID,
    )?;
    let tokens = running.tokens(5);
    running.alone(0, &tokens)?;
    Ok("it is refused, and the session goes on".to_owned())
}
