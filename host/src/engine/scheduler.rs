//! Which sequences take part in the next step, and with how many tokens.
//!
//! Decoding sequences come first, one token each; then prompts, in chunks, until the batch is full. A sequence is admitted
//! when the KV pool has room for all that it and the running ones still have to store, so a prompt that was begun can be
//! finished. What running sequences store beyond that may still fill the pool: then the youngest one is preempted, which
//! means that it waits again and is computed anew later.

use std::collections::VecDeque;

use tenon_plugin_api::{KvLedger, SessionInfo, Span};

use super::{Sequence, metrics::EngineMetrics};
use crate::plugin::Session;

/// The sequences of one model and the book of its KV pool.
pub struct Scheduler {
    /// In order of arrival.
    pub waiting: VecDeque<Sequence>,
    /// In order of admission, so the last is the youngest.
    pub running: Vec<Sequence>,
    ledger: KvLedger,
    free_slots: Vec<u32>,
    metrics: EngineMetrics,
}

/// The spans of one step. Its buffers are used again and again.
pub struct Plan {
    /// Tokens of all spans, flat.
    pub tokens: Vec<u32>,
    pub spans: Vec<Span>,
    max_batch_tokens: u32,
    /// Rows of logits that may still be asked for.
    free_rows: u32,
    max_rows: u32,
}

impl Plan {
    pub fn new(granted: &SessionInfo) -> Self {
        Self {
            tokens: Vec::with_capacity(granted.max_batch_tokens as usize),
            spans: Vec::new(),
            max_batch_tokens: granted.max_batch_tokens,
            free_rows: granted.max_rows,
            max_rows: granted.max_rows,
        }
    }

    fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.free_rows = self.max_rows;
    }

    fn room(&self) -> u32 {
        self.max_batch_tokens - self.tokens.len() as u32
    }

    /// Adds as many pending tokens of a sequence as fit.
    fn add(&mut self, sequence: &Sequence) {
        let len = sequence.pending().min(self.room());
        // Each token less needs a row less, if any.
        let len = len - sequence.rows(len).saturating_sub(self.free_rows);
        if len == 0 {
            return;
        }
        let rows = sequence.rows(len);
        self.free_rows -= rows;
        let from = sequence.computed as usize;
        let tokens = &sequence.tokens[from..from + len as usize];
        self.tokens.extend_from_slice(tokens);
        self.spans.push(Span {
            seq: sequence.slot,
            position: sequence.computed,
            len,
            rows,
            ..Span::default()
        });
    }
}

impl Scheduler {
    pub fn new(granted: &SessionInfo, metrics: EngineMetrics) -> Self {
        // Every running sequence must be able to decode in every step.
        let max_running = granted.max_sequences.min(granted.max_rows);
        let max_running = max_running.min(granted.max_batch_tokens);
        Self {
            waiting: VecDeque::new(),
            running: Vec::with_capacity(max_running as usize),
            ledger: KvLedger::new(granted.max_sequences, granted.kv_tokens),
            free_slots: (0..max_running).rev().collect(),
            metrics,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Plans the next step.
    pub fn schedule(&mut self, session: &mut Session, plan: &mut Plan) {
        self.drop_abandoned(session);
        self.make_room(session);
        plan.clear();
        for decoding in self.running.iter().filter(|s| s.pending() == 1) {
            plan.add(decoding);
        }
        for prompt in self.running.iter().filter(|s| s.pending() > 1) {
            plan.add(prompt);
        }
        while plan.room() > 0
            && let Some(admitted) = self.admit()
        {
            plan.add(admitted);
        }
        self.report();
    }

    /// Shows how much there is to do. Also to be called when nothing is left, because no schedule follows then.
    pub fn report(&self) {
        self.metrics.running.set(self.running.len() as i64);
        self.metrics.waiting.set(self.waiting.len() as i64);
        let used = self.ledger.stats().used_tokens;
        self.metrics.kv_used_tokens.set(used.into());
    }

    /// Books what a span stored.
    pub fn commit(&mut self, span: &Span) {
        // Cannot fail: the schedule kept to the ledger. If it could, the plugin's own book would say so at the next step.
        let booked = self.ledger.append(span);
        debug_assert_eq!(booked, Ok(()));
        if let Some(sequence) = self.running.iter_mut().find(|s| s.slot == span.seq) {
            sequence.computed += span.len;
        }
    }

    /// Takes a sequence out and gives its KV back.
    pub fn remove(&mut self, session: &mut Session, slot: u32) -> Option<Sequence> {
        let at = self.running.iter().position(|s| s.slot == slot)?;
        let sequence = self.running.remove(at);
        session.free(slot);
        self.ledger.free(slot);
        self.free_slots.push(slot);
        Some(sequence)
    }

    /// Puts a running sequence back, to be computed anew.
    pub fn requeue(&mut self, session: &mut Session, slot: u32) {
        if let Some(mut sequence) = self.remove(session, slot) {
            sequence.computed = 0;
            self.waiting.push_front(sequence);
            self.metrics.preemptions.inc();
        }
    }

    /// Preempts the youngest sequence. False if there are not two: a lone sequence has the whole pool.
    pub fn preempt_youngest(&mut self, session: &mut Session) -> bool {
        match self.running.as_slice() {
            [_, .., youngest] => {
                let slot = youngest.slot;
                self.requeue(session, slot);
                true
            }
            _ => false,
        }
    }

    fn drop_abandoned(&mut self, session: &mut Session) {
        self.waiting.retain(|sequence| !sequence.is_abandoned());
        while let Some(gone) = self.running.iter().find(|s| s.is_abandoned()) {
            let slot = gone.slot;
            self.remove(session, slot);
        }
    }

    /// Sees to it that the running sequences find places for all that they still have to store.
    fn make_room(&mut self, session: &mut Session) {
        while self.ledger.free_tokens() < self.promised() && self.preempt_youngest(session) {}
    }

    /// Places that running sequences still need.
    fn promised(&self) -> u32 {
        self.running.iter().map(Sequence::pending).sum()
    }

    /// Admits the sequence that waits longest, if there is room for it.
    fn admit(&mut self) -> Option<&Sequence> {
        let needed = self.waiting.front()?.pending();
        if self.ledger.free_tokens() < self.promised() + needed {
            return None;
        }
        let slot = self.free_slots.pop()?;
        let mut sequence = self.waiting.pop_front()?;
        sequence.slot = slot;
        sequence.ticket = None;
        self.running.push(sequence);
        self.running.last()
    }
}
