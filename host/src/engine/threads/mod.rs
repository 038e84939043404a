//! Chooses how many threads compute and how they wait: measured when a model is loaded, adjusted while it runs.
//!
//! `calibration` measures the choices before the first request. `tuner` decides from step to step. Decode and prefill are
//! tuned separately, because more threads may pay for one and not for the other. Backends that cannot change their threads
//! are left alone.

mod calibration;
mod tuner;

use std::{
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{Batch, Code, Error, Span, SpanOut, ThreadPlan};
use tracing::{info, warn};

use super::EngineMetrics;
use crate::{plugin::Session, system::niceness::LongWork};
use calibration::{choices, measure};
use tuner::{Switch, ThreadChoice, Tuner};

/// The threads of one session.
pub struct Threads {
    decode: Tuner,
    prefill: Tuner,
    /// The plan that the session uses now.
    plan: ThreadPlan,
    /// Most threads that may compute.
    most: u32,
    metrics: EngineMetrics,
}

/// Measurements of a model's first engine. Engines at other levels start with the same values: measuring again would take
/// long while the first engine computes, and would delay its requests.
#[derive(Default, Serialize, Deserialize)]
pub struct Calibration {
    #[serde(skip)]
    measured: OnceLock<Measured>,
}

/// Seconds of each choice. None if it was not measured.
struct Measured {
    decode: Vec<Option<f64>>,
    prefill: Vec<Option<f64>>,
}

/// Time limits of calibration for each kind of step. Calibration ends when the last step that began in time is done.
const DECODE_LIMIT: Duration = Duration::from_millis(200);
const PREFILL_LIMIT: Duration = Duration::from_millis(300);
/// About the time between two steps: threads that sleep fall asleep in it, so that waking them is measured too.
const PAUSE: Duration = Duration::from_micros(300);
/// Tokens of a step that represents prefill.
const PREFILL_TOKENS: u32 = 16;

impl Threads {
    /// Sets the fastest choice with up to `most` threads. If no measurements exist yet, measures on the session, which nobody
    /// uses yet. None if the backend has no choice.
    pub fn calibrate(
        session: &mut Session,
        most: u32,
        calibration: &Calibration,
        metrics: &EngineMetrics,
    ) -> Option<Self> {
        match Self::calibrated(session, most, calibration, metrics) {
            Ok(threads) => Some(threads),
            Err(error) => {
                if error.code != Code::UNSUPPORTED {
                    warn!("the threads of the model cannot be tuned: {error}");
                }
                None
            }
        }
    }

    fn calibrated(
        session: &mut Session,
        most: u32,
        calibration: &Calibration,
        metrics: &EngineMetrics,
    ) -> Result<Self, Error> {
        let (started, choices) = (Instant::now(), choices(most));
        let measured = match calibration.measured.get() {
            Some(measured) => measured,
            None => {
                let measured = Measured::of(session, &choices)?;
                calibration.measured.get_or_init(|| measured)
            }
        };
        let mut threads = Self {
            decode: Tuner::new(&choices, &measured.decode),
            prefill: Tuner::new(&choices, &measured.prefill),
            plan: ThreadPlan::default(),
            most,
            metrics: metrics.clone(),
        };
        threads.apply(session)?;
        threads.show();
        info!(
            "decode runs on {}, prefill on {} (found out in {} ms)",
            describe(threads.decode.choice()),
            describe(threads.prefill.choice()),
            started.elapsed().as_millis()
        );
        Ok(threads)
    }

    /// Records a step that was computed, and changes the threads for the next one if that seems better.
    pub fn observe(&mut self, session: &mut Session, spans: &[Span], took: Duration) {
        let tokens = spans.iter().map(|span| span.len).sum();
        let decoding = spans.iter().all(|span| span.len == 1);
        let (what, tuner) = match decoding {
            true => ("decode", &mut self.decode),
            false => ("prefill", &mut self.prefill),
        };
        if LongWork::is_there() {
            // What steps cost during long work says nothing about other times.
            tuner.end_trial();
        } else if let Some(switch) = tuner.observe(tokens, took.as_secs_f64()) {
            announce(what, &switch);
            self.metrics.thread_switches.inc();
            self.show();
        }
        // After an error the old threads go on, and the next step tries again.
        if let Err(error) = self.apply(session) {
            warn!("the threads of the model could not be changed: {error}");
        }
    }

    /// Updates the metrics with the settled choices, not with trials.
    fn show(&self) {
        let (decode, prefill) = (self.decode.settled(), self.prefill.settled());
        self.metrics.set_threads(decode.threads, prefill.threads);
    }

    fn apply(&mut self, session: &mut Session) -> Result<(), Error> {
        let most = match LongWork::is_there() {
            // Threads wait for each other, so a thread that shares its core with long work delays all of them.
            true => self.most.saturating_sub(1).max(1),
            false => self.most,
        };
        let [decode, prefill] = [&self.decode, &self.prefill].map(|tuner| ThreadChoice {
            threads: tuner.choice().threads.min(most),
            ..tuner.choice()
        });
        let wanted = plan(decode, prefill);
        if wanted != self.plan {
            session.set_threads(wanted)?;
            self.plan = wanted;
        }
        Ok(())
    }
}

impl Measured {
    fn of(session: &mut Session, choices: &[ThreadChoice]) -> Result<Self, Error> {
        // The first step is not measured: it would include reading the model into memory.
        let first = choices[0];
        session.set_threads(plan(first, first))?;
        dummy_step(session, 1)?;
        let decode = measure(choices, DECODE_LIMIT, |choice| {
            session.set_threads(plan(choice, choice))?;
            dummy_step(session, 1)
        })?;
        let info = *session.info();
        let tokens = info.max_batch_tokens.min(info.context_length);
        let prefill = measure(choices, PREFILL_LIMIT, |choice| {
            session.set_threads(plan(choice, choice))?;
            dummy_step(session, tokens.min(PREFILL_TOKENS))
        })?;
        Ok(Self { decode, prefill })
    }
}

fn plan(decode: ThreadChoice, prefill: ThreadChoice) -> ThreadPlan {
    ThreadPlan {
        decode: decode.threads,
        decode_poll: decode.poll,
        prefill: prefill.threads,
        prefill_poll: prefill.poll,
        ..ThreadPlan::default()
    }
}

/// Computes a sequence of `tokens` tokens, frees it, and returns the time.
fn dummy_step(session: &mut Session, tokens: u32) -> Result<Duration, Error> {
    let span = Span {
        len: tokens,
        rows: 1,
        ..Span::default()
    };
    let ids = [0; PREFILL_TOKENS as usize];
    let mut out = [SpanOut::default()];
    sleep(PAUSE);
    let started = Instant::now();
    session.forward(&Batch::new(&ids[..tokens as usize], &[span]), &mut out)?;
    let took = started.elapsed();
    session.free(span.seq);
    match out[0].status {
        Code::OK => Ok(took),
        code => Err(Error::new(
            code,
            format!("a step for calibration failed: {code:?}"),
        )),
    }
}

fn announce(what: &str, switch: &Switch) {
    info!(
        "{what} now runs on {}, {:.2} times as fast as on {}",
        describe(switch.to),
        switch.speedup,
        describe(switch.from)
    );
}

fn describe(choice: ThreadChoice) -> String {
    match choice {
        ThreadChoice { threads: 1, .. } => "1 thread".to_owned(),
        ThreadChoice { threads, poll: 0 } => format!("{threads} threads that sleep"),
        ThreadChoice { threads, .. } => format!("{threads} threads that spin"),
    }
}
