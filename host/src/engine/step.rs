//! One step of the engine: schedule → forward → sample → settle.

use tenon_plugin_api::{Batch, Code, Error, SpanOut};

use super::{
    metrics::EngineMetrics,
    picks::Picks,
    scheduler::{Plan, Scheduler},
};
use crate::plugin::Session;

/// A session at work, with the buffers of its steps.
pub struct Stepper {
    session: Session,
    pub scheduler: Scheduler,
    plan: Plan,
    /// `[spans]`
    outs: Vec<SpanOut>,
    picks: Picks,
    /// Tokens that end a text.
    eos: Vec<u32>,
    metrics: EngineMetrics,
}

/// How often a sequence may be lost by the backend before it fails.
const MAX_LOSSES: u32 = 2;

impl Stepper {
    pub fn new(session: Session, eos: Vec<u32>, metrics: EngineMetrics) -> Self {
        Self {
            scheduler: Scheduler::new(session.info(), metrics.clone()),
            plan: Plan::new(session.info()),
            session,
            outs: Vec::new(),
            picks: Picks::default(),
            eos,
            metrics,
        }
    }

    /// Takes every sequence one step further. An error is the end of the session.
    pub fn step(&mut self) -> Result<(), Error> {
        self.scheduler.schedule(&mut self.session, &mut self.plan);
        if self.plan.spans.is_empty() {
            return Ok(());
        }
        match self.forward().and_then(|()| self.sample()) {
            Ok(()) => self.settle(),
            Err(error) if is_fatal(error.code) => return Err(error),
            Err(error) => self.refused(&error),
        }
        Ok(())
    }

    /// Puts the batch through the model.
    fn forward(&mut self) -> Result<(), Error> {
        self.outs.clear();
        self.outs.resize(self.plan.spans.len(), SpanOut::default());
        self.metrics.steps.inc();
        let batch = Batch::new(&self.plan.tokens, &self.plan.spans);
        self.session.forward(&batch, &mut self.outs)
    }

    /// Picks the next token of every sequence whose tokens are all computed, and scores what is to be scored.
    fn sample(&mut self) -> Result<(), Error> {
        let running = &self.scheduler.running;
        let spans = self.plan.spans.iter().zip(&self.outs);
        let requests = spans.filter_map(|(span, out)| {
            let sequence = running.iter().find(|s| s.slot == span.seq)?;
            let first = span.position + span.len - span.rows;
            let request = move |at| sequence.request(first + at, out.first_row + at);
            (out.status == Code::OK).then(|| (0..span.rows).map(request))
        });
        self.picks.sample(&mut self.session, requests.flatten())
    }

    /// Books what was computed and gives each sequence what was picked for it.
    fn settle(&mut self) {
        let mut request = 0;
        for at in 0..self.plan.spans.len() {
            let (span, status) = (self.plan.spans[at], self.outs[at].status);
            if status != Code::OK {
                self.span_failed(span.seq, status);
                continue;
            }
            self.scheduler.commit(&span);
            self.metrics.computed_tokens.inc_by(span.len.into());
            for _ in 0..span.rows {
                self.give(span.seq, request);
                request += 1;
            }
        }
    }

    /// Gives a sequence what was picked, unless it ended with an earlier row.
    fn give(&mut self, slot: u32, request: usize) {
        let running = &mut self.scheduler.running;
        let Some(sequence) = running.iter_mut().find(|s| s.slot == slot) else {
            return;
        };
        let length = sequence.tokens.len();
        let over = match self.picks.get(request) {
            Ok(pick) => sequence.take(&pick, self.eos.contains(&pick.token)),
            Err(code) => return self.fail(slot, Error::new(code, "no token could be sampled")),
        };
        if sequence.tokens.len() > length {
            self.metrics.generated_tokens.inc();
        }
        if over {
            self.scheduler.remove(&mut self.session, slot);
        }
    }

    /// The backend refused the whole batch: it lacks room for it, or something is wrong with it.
    fn refused(&mut self, error: &Error) {
        match error.code {
            Code::NO_KV_SPACE if self.scheduler.preempt_youngest(&mut self.session) => {}
            _ => {
                for at in 0..self.plan.spans.len() {
                    self.fail(self.plan.spans[at].seq, error.clone());
                }
            }
        }
    }

    fn span_failed(&mut self, slot: u32, code: Code) {
        let running = &mut self.scheduler.running;
        let Some(sequence) = running.iter_mut().find(|s| s.slot == slot) else {
            return;
        };
        sequence.losses += 1;
        let lost = matches!(code, Code::SEQUENCE_LOST | Code::BAD_POSITION);
        let recompute = lost && sequence.losses <= MAX_LOSSES;
        if recompute || (code == Code::NO_KV_SPACE && self.scheduler.running.len() > 1) {
            self.scheduler.requeue(&mut self.session, slot);
        } else {
            self.fail(
                slot,
                Error::new(code, format!("the backend could not go on: {code:?}")),
            );
        }
    }

    fn fail(&mut self, slot: u32, error: Error) {
        if let Some(sequence) = self.scheduler.remove(&mut self.session, slot) {
            sequence.fail(error);
        }
    }

    /// Ends every sequence with this error.
    pub fn fail_all(&mut self, error: &Error) {
        let waiting = self.scheduler.waiting.drain(..);
        for sequence in waiting.chain(self.scheduler.running.drain(..)) {
            sequence.fail(error.clone());
        }
    }
}

/// Whether the session cannot be used after this error.
fn is_fatal(code: Code) -> bool {
    matches!(code, Code::PANICKED | Code::DEVICE_LOST)
}
