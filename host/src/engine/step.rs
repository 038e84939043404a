//! One step of the engine: schedule → forward → sample → settle.

use std::mem;

use tenon_plugin_api::{Batch, Code, Error, SampleRequest, Sampled, SpanOut};

use super::{
    metrics::EngineMetrics,
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
    /// One for each row, in batch order. Empty between steps, because they borrow from sequences.
    requests: Vec<SampleRequest<'static>>,
    /// `[requests]`
    sampled: Vec<Sampled<'static>>,
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
            plan: Plan::new(session.info().max_batch_tokens),
            session,
            outs: Vec::new(),
            requests: Vec::new(),
            sampled: Vec::new(),
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

    /// Picks the next token of every sequence whose tokens are all computed.
    fn sample(&mut self) -> Result<(), Error> {
        let mut requests = recycled(mem::take(&mut self.requests));
        self.sampled.clear();
        for (span, out) in self.plan.spans.iter().zip(&self.outs) {
            if out.status == Code::OK && span.rows > 0 {
                let mut request = SampleRequest::new(out.first_row);
                if let Some(sequence) = self.scheduler.running.iter().find(|s| s.slot == span.seq) {
                    request = request.with_counts(sequence.counts.as_slice());
                    request.params = sequence.params;
                    request.draw = sequence.draw();
                }
                requests.push(request);
                self.sampled.push(Sampled::new(&mut []));
            }
        }
        let sampled = match requests.is_empty() {
            true => Ok(()),
            false => self.session.sample(&requests, &mut self.sampled),
        };
        self.requests = recycled(requests);
        sampled
    }

    /// Books what was computed and gives each sequence its token.
    fn settle(&mut self) {
        let mut rows = 0;
        for at in 0..self.plan.spans.len() {
            let (span, status) = (self.plan.spans[at], self.outs[at].status);
            if status != Code::OK {
                self.span_failed(span.seq, status);
                continue;
            }
            self.scheduler.commit(&span);
            self.metrics.computed_tokens.inc_by(span.len.into());
            if span.rows > 0 {
                let (token, status) = (self.sampled[rows].token, self.sampled[rows].status);
                rows += 1;
                match status {
                    Code::OK => self.push(span.seq, token),
                    code => self.fail(span.seq, Error::new(code, "no token could be sampled")),
                }
            }
        }
    }

    fn push(&mut self, slot: u32, token: u32) {
        let ends = self.eos.contains(&token);
        self.metrics.generated_tokens.inc();
        let running = &mut self.scheduler.running;
        let sequence = running.iter_mut().find(|s| s.slot == slot);
        if sequence.is_some_and(|sequence| sequence.push(token, ends)) {
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

/// The same buffer, emptied, for requests that borrow from something else.
fn recycled<'a>(mut requests: Vec<SampleRequest<'_>>) -> Vec<SampleRequest<'a>> {
    requests.clear();
    // Collecting a vector's own iterator keeps its allocation. Nothing is left that could be mapped.
    requests.into_iter().map(|_| unreachable!()).collect()
}
