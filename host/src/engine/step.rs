//! One step of the engine: schedule → forward → sample → settle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{Batch, Code, Error, Span, SpanOut};

use super::{
    EngineLimits, Failure,
    audience::Audience,
    constraint::Constraint,
    metrics::EngineMetrics,
    picks::{Pick, Picks},
    plan::Plan,
    queue::Queue,
    scheduler::Scheduler,
    sequence::{Sequence, Taken},
    step_cost::StepCost,
    threads::Threads,
};
use crate::plugin::Session;

/// A session with its scheduler and the buffers of its steps.
pub struct Stepper {
    session: Session,
    pub scheduler: Scheduler,
    plan: Plan,
    /// `[spans]`
    outs: Vec<SpanOut>,
    picks: Picks,
    cost: StepCost,
    /// Tokens that end a text.
    eos: Vec<u32>,
    queue: Queue,
    audience: Arc<Audience>,
    /// When the last sequence ended.
    last_end: Instant,
    /// None: the number of threads does not change.
    threads: Option<Threads>,
    metrics: EngineMetrics,
}

/// How many times the backend may lose a sequence before that sequence fails.
const MAX_LOSSES: u32 = 2;

impl Stepper {
    pub fn new(
        session: Session,
        eos: Vec<u32>,
        limits: EngineLimits,
        queue: Queue,
        audience: Arc<Audience>,
        threads: Option<Threads>,
        metrics: EngineMetrics,
    ) -> Self {
        Self {
            scheduler: Scheduler::new(session.info(), limits, metrics.clone()),
            plan: Plan::new(session.info()),
            session,
            outs: Vec::new(),
            picks: Picks::default(),
            cost: StepCost::default(),
            eos,
            queue,
            audience,
            last_end: Instant::now(),
            threads,
            metrics,
        }
    }

    /// Adds a new sequence. If too many sequences wait then, the client that has most of them loses one.
    pub fn enqueue(&mut self, sequence: Sequence) {
        self.scheduler.enqueue(sequence);
        while let Some(retry_after_secs) = self.queue.overfull()
            && let Some(displaced) = self.scheduler.displace()
        {
            displaced.fail(Failure::Displaced { retry_after_secs });
        }
    }

    /// Makes one step. False if there is nothing to compute and no grammar to wait for: all sequences wait for their readers.
    /// After an error the session cannot be used.
    pub fn step(&mut self) -> Result<bool, Error> {
        self.scheduler
            .schedule(&mut self.session, &mut self.plan, &self.cost);
        // Fast-forward tokens of a grammar are sent before the forward.
        self.audience.notify();
        if self.plan.spans.is_empty() {
            let mut running = self.scheduler.running.iter_mut();
            let waits = |s: &mut Sequence| s.constraint().is_some_and(Constraint::wait);
            return Ok(running.any(|s| waits(s) || s.end_by_grammar().is_some()));
        }
        let begun = Instant::now();
        self.begin_masks();
        let computed = self.forward().map(|()| {
            self.await_masks();
            self.sample()
        });
        let is_interrupted = self.audience.end();
        match computed {
            Err(error) | Ok(Err(error)) if is_fatal(error.code) => return Err(error),
            Ok(sampled) => {
                if sampled.is_ok() {
                    self.observe(begun.elapsed());
                }
                self.settle(sampled, is_interrupted);
            }
            // Nothing was computed. The sequences that nobody reads are dropped when the next step is planned.
            Err(error) if error.code == Code::CANCELLED && is_interrupted => {}
            Err(error) => self.refused(&error),
        }
        Ok(true)
    }

    /// Records how long the step took.
    fn observe(&mut self, took: Duration) {
        self.cost.record(self.plan.len(), took);
        if let Some(threads) = &mut self.threads {
            threads.observe(&mut self.session, &self.plan.spans, took);
        }
    }

    /// Puts the batch through the model.
    fn forward(&mut self) -> Result<(), Error> {
        self.outs.clear();
        self.outs.resize(self.plan.spans.len(), SpanOut::default());
        self.metrics.steps.inc();
        self.begin_batch();
        let batch = Batch::new(&self.plan.tokens, &self.plan.spans);
        self.session.forward(&batch, &mut self.outs)
    }

    /// Tells the readers that they wait for this batch.
    fn begin_batch(&self) {
        let number = self.audience.begin(self.plan.spans.len());
        for span in &self.plan.spans {
            let mut running = self.scheduler.running.iter();
            if let Some(sequence) = running.find(|sequence| sequence.kv.seq == span.seq) {
                sequence.reader.wait_for(number);
            }
        }
    }

    /// Starts finding what the grammars allow, while the model computes.
    fn begin_masks(&mut self) {
        for span in &self.plan.spans {
            if let Some(sequence) = self.scheduler.get_mut(span.seq) {
                sequence.begin_masks(span.len);
            }
        }
    }

    /// Waits for the masks. A sequence whose grammar takes too long fails, and its rows are not used.
    fn await_masks(&mut self) {
        for at in 0..self.plan.spans.len() {
            let seq = self.plan.spans[at].seq;
            let constraint = self.scheduler.get_mut(seq).and_then(Sequence::constraint);
            if let Some(Err(error)) = constraint.map(Constraint::await_masks) {
                self.outs[at].status = Code::CANCELLED;
                self.fail(seq, error);
            }
        }
    }

    /// Samples the next token of every sequence whose tokens are all computed, and scores tokens where that was asked for.
    fn sample(&mut self) -> Result<(), Error> {
        let running = &self.scheduler.running;
        let spans = self.plan.spans.iter().zip(&self.outs);
        let requests = spans.filter_map(|(span, out)| {
            let sequence = running.iter().find(|s| s.kv.seq == span.seq)?;
            let first = span.start + span.len - span.rows;
            let request = move |at| sequence.sample_request(first + at, out.first_row + at);
            (out.status == Code::OK).then(|| (0..span.rows).map(request))
        });
        self.picks.sample(&mut self.session, requests.flatten())
    }

    /// Records what was computed, and gives each sequence the tokens that were picked for it. After an error of `sample` the spans
    /// are stored, but nothing was picked.
    fn settle(&mut self, sampled: Result<(), Error>, is_interrupted: bool) {
        let mut request = 0;
        for at in 0..self.plan.spans.len() {
            let (span, status) = (self.plan.spans[at], self.outs[at].status);
            if status != Code::OK {
                self.span_failed(span.seq, status);
                continue;
            }
            self.scheduler.commit(&span);
            self.metrics.computed_tokens.inc_by(span.len.into());
            let settled = match &sampled {
                Err(error) if span.rows > 0 => Err(error.clone()),
                Err(_) => Ok(()),
                Ok(()) => self.settle_span(&span, request),
            };
            if let Err(error) = settled {
                self.unsampled(span.seq, error, is_interrupted);
            }
            request += span.rows as usize;
        }
    }

    /// Gives a sequence the tokens picked from its rows, as far as its draft was right.
    fn settle_span(&mut self, span: &Span, first: usize) -> Result<(), Error> {
        let Some(sequence) = self.scheduler.get_mut(span.seq) else {
            return Ok(());
        };
        let rows = first..first + span.rows as usize;
        let outcome = take_rows(sequence, rows.map(|row| self.picks.get(row)), &self.eos);
        self.metrics.generated_tokens.inc_by(outcome.tokens as u64);
        let (drafted, accepted) = (sequence.draft().len(), sequence.accepted());
        self.metrics.drafted_tokens.inc_by(drafted as u64);
        self.metrics.accepted_tokens.inc_by(accepted.into());
        sequence.advance_grammar(outcome.tokens);
        sequence.reader.wake();
        if drafted > 0 {
            self.scheduler.roll_back(&mut self.session, span.seq);
        }
        match outcome.end {
            Ok(false) => {}
            Ok(true) => self.finish(span.seq),
            Err(code) => return Err(Error::new(code, "no token could be sampled")),
        }
        Ok(())
    }

    /// Handles a sequence whose span is stored, but whose next token could not be picked. A backend that computes asynchronously may
    /// notice only now that it lost the sequence.
    fn unsampled(&mut self, seq: u32, error: Error, is_interrupted: bool) {
        match error.code {
            Code::SEQUENCE_LOST | Code::NO_KV_SPACE => self.span_failed(seq, Code::SEQUENCE_LOST),
            Code::CANCELLED if is_interrupted => {
                self.scheduler.recompute_logits(&mut self.session, seq);
            }
            _ => self.fail(seq, error),
        }
    }

    fn finish(&mut self, seq: u32) {
        self.scheduler.finish(&mut self.session, seq);
        // While nobody waits, sequences end as rarely as they arrive, which says nothing about the pace.
        if !self.scheduler.waiting.is_empty() {
            self.queue.paced(self.last_end.elapsed());
        }
        self.last_end = Instant::now();
    }

    /// Handles an error of the whole batch: the backend lacks room for it, or the batch is at fault.
    fn refused(&mut self, error: &Error) {
        match error.code {
            Code::NO_KV_SPACE if self.scheduler.preempt(&mut self.session) => {}
            _ => {
                for at in 0..self.plan.spans.len() {
                    self.fail(self.plan.spans[at].seq, error.clone());
                }
            }
        }
    }

    fn span_failed(&mut self, seq: u32, code: Code) {
        let Some(sequence) = self.scheduler.get_mut(seq) else {
            return;
        };
        sequence.kv.losses += 1;
        let lost = matches!(code, Code::SEQUENCE_LOST | Code::BAD_POSITION);
        let recompute = lost && sequence.kv.losses <= MAX_LOSSES;
        if recompute || (code == Code::NO_KV_SPACE && self.scheduler.running.len() > 1) {
            self.scheduler.requeue(&mut self.session, seq);
        } else {
            self.fail(
                seq,
                Error::new(code, format!("the backend could not go on: {code:?}")),
            );
        }
    }

    fn fail(&mut self, seq: u32, failure: impl Into<Failure>) {
        if let Some(sequence) = self.scheduler.remove(&mut self.session, seq) {
            sequence.fail(failure.into());
        }
    }

    /// Ends every sequence with this error.
    pub fn fail_all(&mut self, error: &Error) {
        let waiting = self.scheduler.waiting.drain(..);
        for sequence in waiting.chain(self.scheduler.running.drain(..)) {
            sequence.fail(Failure::Backend(error.clone()));
        }
    }
}

/// The result of a sequence's rows.
struct TakenRows {
    /// How many tokens were picked.
    tokens: usize,
    /// Whether the sequence is over, or why it failed.
    end: Result<bool, Code>,
}

fn take_rows<'a>(
    sequence: &mut Sequence,
    picks: impl Iterator<Item = Result<Pick<'a>, Code>>,
    eos: &[u32],
) -> TakenRows {
    let before = sequence.tokens.len();
    let mut end = Ok(false);
    for pick in picks {
        let taken = pick.map(|pick| sequence.take(&pick, eos.contains(&pick.token)));
        if taken == Ok(Taken::Row) {
            continue;
        }
        end = taken.map(|taken| taken == Taken::End);
        break;
    }
    TakenRows {
        tokens: sequence.tokens.len() - before,
        end,
    }
}

/// Whether the session is unusable after this error.
fn is_fatal(code: Code) -> bool {
    matches!(code, Code::PANICKED | Code::DEVICE_LOST)
}
