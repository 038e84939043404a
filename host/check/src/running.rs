//! A loaded model with a session.

use std::sync::Arc;

use fastrand::Rng;
use tenon::plugin::{Backend, Model};
use tenon_plugin_api::{
    Result, SessionArgs,
    testing::{Driver, Part, Row, TOLERANCE, distance},
};

use crate::{
    bridge::Bridge,
    finding::{Checked, Finding, ensure},
    subject::{Subject, THREADS},
};

/// Longest sequence of a session, in tokens.
const CONTEXT: u32 = 256;

/// A loaded model with a session.
pub struct Running {
    pub driver: Driver,
    pub model: Model,
    pub backend: Arc<Backend>,
    pub dice: Rng,
}

impl Running {
    /// The subject's model with the usual session.
    pub fn new(subject: &Subject) -> Checked<Self> {
        Self::with(subject, &args())
    }

    /// The subject's model with a session of these sizes.
    pub fn with(subject: &Subject, args: &SessionArgs) -> Checked<Self> {
        let backend = subject.backend()?;
        let model = subject.load(&backend)?;
        Ok(Self {
            driver: session(&model, args)?,
            model,
            backend,
            dice: Rng::with_seed(subject.seed),
        })
    }

    /// Like [`new`](Self::new), with room for this many sequences. Without that room the case is skipped.
    pub fn with_sequences(subject: &Subject, wanted: u32) -> Checked<Self> {
        let running = Self::new(subject)?;
        let granted = running.driver.info().max_sequences;
        match granted >= wanted {
            true => Ok(running),
            false => Err(Finding::skipped(format!(
                "it needs {wanted} sequences, and the session grants {granted}"
            ))),
        }
    }

    /// Random tokens.
    pub fn tokens(&mut self, len: usize) -> Vec<u32> {
        let vocab_size = self.model.info().vocab_size;
        (0..len).map(|_| self.dice.u32(..vocab_size)).collect()
    }

    /// The rows of all positions of these tokens, computed in one piece in this sequence, which is empty before and after.
    pub fn alone(&mut self, seq: u32, tokens: &[u32]) -> Result<Vec<Row>> {
        let rows = self.driver.append(&[Part::with_all_rows(seq, tokens)])?;
        self.driver.free(seq);
        Ok(rows.concat())
    }

    /// The row of the last position of these tokens, computed in the same way.
    pub fn last_row(&mut self, seq: u32, tokens: &[u32]) -> Result<Vec<Row>> {
        let row = self.driver.prompt(seq, tokens)?;
        self.driver.free(seq);
        Ok(vec![row])
    }
}

/// The usual sizes of a session.
pub fn args() -> SessionArgs {
    SessionArgs {
        max_sequences: 4,
        kv_tokens: 4 * CONTEXT,
        context_length: CONTEXT,
        max_batch_tokens: 64,
        threads: THREADS,
        ..SessionArgs::default()
    }
}

/// A session of a model.
pub fn session(model: &Model, args: &SessionArgs) -> Checked<Driver> {
    if !model.info().generates_text() {
        return Err(Finding::skipped("the model generates no text"));
    }
    let session = model.session(args).map_err(|error| {
        Finding::failed(format!("the model makes no session ({error})"))
            .of("session/grants-in-bounds")
    })?;
    let bridge = Bridge::new(session, model.info().logits_width);
    Ok(Driver::over(Box::new(bridge), model.info().clone()))
}

/// Compares rows. Returns the largest distance between two of them.
pub fn same(what: &str, expected: &[Row], found: &[Row]) -> Checked<f32> {
    let count = (expected.len(), found.len());
    ensure(count.0 == count.1, || {
        format!("{what}: there are {} rows instead of {}", count.1, count.0)
    })?;
    let distances = expected.iter().zip(found).map(|(a, b)| distance(a, b));
    let worst = distances.fold(0.0, f32::max);
    ensure(worst <= TOLERANCE, || {
        format!(
            "{what}: rows of logits are {worst:.3} of their spread apart, and rounding explains {TOLERANCE} at most"
        )
    })?;
    Ok(worst)
}

/// A sentence about rows that agree.
pub fn agreement(worst: f32) -> String {
    match worst {
        0.0 => "the rows are equal to the bit".to_owned(),
        _ => format!("the rows are equal but for rounding ({worst:.4} of their spread)"),
    }
}
