//! Chooses the sequences of the next step, and how many tokens of each.
//!
//! Decoding sequences come first, each with a draft if that pays. Then come parts of prompts (`prefill.rs`), until the batch is
//! full or, while others decode, until the step would take too long. `admission.rs` decides which waiting sequences are admitted.
//! Running sequences grow beyond their prompts and may fill the KV pool. Then cached prefixes are dropped first, and after them a
//! sequence is preempted: it waits again and is computed again later. At equal priorities, this is the youngest sequence of the
//! client that runs most.

use std::{mem, time::Instant};

use tenon_plugin_api::{SessionInfo, Span};

use super::{
    EngineLimits, Failure, Sequence,
    draft::DraftRoom,
    kv_pool::KvPool,
    metrics::EngineMetrics,
    plan::Plan,
    prefill::Prefill,
    shares::{Origin, Place, Shares},
    step_cost::StepCost,
};
use crate::plugin::Session;

/// The sequences of one model, and the ledger of its KV pool.
pub struct Scheduler {
    /// Unordered: the sequences' places in line change with every step.
    pub waiting: Vec<Sequence>,
    pub running: Vec<Sequence>,
    pub(super) pool: KvPool,
    pub(super) shares: Shares,
    /// Prompts that have tokens to prefill. Empty between steps.
    pub(super) prefills: Vec<Prefill>,
    /// Places of running sequences, and ids of those that give way. Empty between steps.
    pub(super) places: Vec<(Origin, Place)>,
    pub(super) leaving: Vec<u32>,
    /// Whether a sequence was suspended since the step was planned.
    has_suspended: bool,
    pub(super) max_running: usize,
    /// Longest draft: limited to what the backend can roll back.
    max_draft: u32,
    limits: EngineLimits,
    pub(super) metrics: EngineMetrics,
}

/// Prompt tokens that every step may have, however slow steps are.
const MIN_CHUNK_TOKENS: u32 = 16;

impl Scheduler {
    pub fn new(granted: &SessionInfo, limits: EngineLimits, metrics: EngineMetrics) -> Self {
        // Every running sequence must be able to decode in every step, so each needs a row and a token.
        let max_running = limits.max_running.min(granted.max_sequences);
        let max_running = max_running.min(granted.max_rows);
        let max_running = max_running.min(granted.max_batch_tokens);
        Self {
            waiting: Vec::new(),
            running: Vec::with_capacity(max_running as usize),
            shares: Shares::new(limits.min_priority),
            prefills: Vec::with_capacity(max_running as usize),
            places: Vec::with_capacity(max_running as usize),
            leaving: Vec::new(),
            has_suspended: false,
            pool: KvPool::new(granted, max_running),
            max_running: max_running as usize,
            max_draft: limits.max_draft_tokens.min(granted.max_rollback),
            limits,
            metrics,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Adds a sequence to the waiting ones: a new one, or one that must be computed again.
    pub fn enqueue(&mut self, sequence: Sequence) {
        let all = || self.waiting.iter().chain(&self.running);
        let has_sequences = |client| all().any(|s| s.origin.client == client);
        self.shares.join(sequence.origin.client, has_sequences);
        self.waiting.push(sequence);
    }

    /// Removes and returns the youngest new sequence of the client that has most of them waiting.
    pub fn displace(&mut self) -> Option<Sequence> {
        let new = || self.waiting.iter().filter(|s| s.is_new());
        let count = |client| new().filter(|s| s.origin.client == client).count();
        let youngest = new().max_by_key(|s| (count(s.origin.client), s.origin.arrival))?;
        let at = self
            .waiting
            .iter()
            .position(|s| s.origin == youngest.origin)?;
        Some(self.waiting.remove(at))
    }

    /// Plans the next step.
    pub fn schedule(&mut self, session: &mut Session, plan: &mut Plan, cost: &StepCost) {
        self.drop_ended(session);
        self.follow_grammars(session);
        self.cache_checkpoints(session);
        self.make_room(session);
        self.plan_all(session, plan, cost, true);
        // The plan still has sequences that were suspended while it was made.
        if mem::take(&mut self.has_suspended) {
            self.plan_all(session, plan, cost, false);
        }
        self.report();
    }

    /// Plans decoding and prompts. Waiting sequences may be admitted if `admits`.
    fn plan_all(&mut self, session: &mut Session, plan: &mut Plan, cost: &StepCost, admits: bool) {
        plan.clear();
        self.plan_decodes(plan, cost);
        if !plan.spans.is_empty() {
            plan.limit(self.chunk_tokens(plan, cost));
        }
        self.plan_prompts(session, plan, cost, admits);
    }

    /// Updates the gauges. Call it also when no work is left, because no schedule follows then.
    pub fn report(&mut self) {
        self.metrics.running.set(self.running.len() as i64);
        self.metrics.waiting.set(self.waiting.len() as i64);
        self.metrics
            .cached_prefixes
            .set(self.pool.cached_prefixes() as i64);
        self.metrics
            .kv_used_tokens
            .set(self.pool.used_tokens().into());
        self.metrics
            .kv_running_tokens
            .set(self.pool.running_tokens(&self.running).into());
    }

    /// Records in the ledger what a span stored.
    pub fn commit(&mut self, span: &Span) {
        self.pool.append(span);
        if let Some(sequence) = self.get_mut(span.seq) {
            sequence.kv.computed += span.len;
            let client = sequence.origin.client;
            self.shares.charge(client, span.len);
        }
    }

    /// Takes back what is stored from the last token on: rejected draft tokens, and a token whose logits are needed again.
    pub fn roll_back(&mut self, session: &mut Session, seq: u32) {
        let Some(sequence) = self.running.iter_mut().find(|s| s.kv.seq == seq) else {
            return;
        };
        let len = sequence.tokens.len() as u32 - 1;
        if sequence.kv.computed <= len {
            return;
        }
        sequence.kv.computed = len;
        // If the backend cannot truncate, the whole sequence is computed again.
        if self.pool.truncate(session, seq, len).is_err() {
            self.pool.clear(session, seq);
            sequence.restart();
        }
    }

    /// Has the logits after the last token of a sequence computed again. Scores of earlier tokens need all of the sequence.
    pub fn recompute_logits(&mut self, session: &mut Session, seq: u32) {
        match self.get_mut(seq) {
            Some(sequence) if sequence.has_unscored() => self.requeue(session, seq),
            _ => self.roll_back(session, seq),
        }
    }

    /// The running sequence with this id.
    pub fn get_mut(&mut self, seq: u32) -> Option<&mut Sequence> {
        self.running.iter_mut().find(|s| s.kv.seq == seq)
    }

    /// Removes a sequence that is over. Its KV is cached for prompts that begin like it.
    pub fn finish(&mut self, session: &mut Session, seq: u32) {
        let Some(sequence) = self.take(seq) else {
            return;
        };
        match sequence.request.cache_prompt {
            true => {
                let stored = sequence.into_stored();
                self.pool.cache(session, seq, stored, &self.running);
            }
            false => self.pool.release(session, seq),
        }
    }

    /// Removes a sequence and frees its KV.
    pub fn remove(&mut self, session: &mut Session, seq: u32) -> Option<Sequence> {
        let sequence = self.take(seq)?;
        self.pool.release(session, seq);
        Some(sequence)
    }

    /// Puts a running sequence back among the waiting ones, to be computed again.
    pub fn requeue(&mut self, session: &mut Session, seq: u32) {
        if let Some(mut sequence) = self.remove(session, seq) {
            sequence.restart();
            self.enqueue(sequence);
            self.metrics.preemptions.inc();
        }
    }

    /// Puts a running sequence back so that another can run. Its KV is cached until others need the room.
    pub fn suspend(&mut self, session: &mut Session, seq: u32) {
        let Some(mut sequence) = self.take(seq) else {
            return;
        };
        match sequence.request.cache_prompt {
            true => {
                let stored = sequence.stored().to_vec();
                self.pool.cache(session, seq, stored, &self.running);
            }
            false => self.pool.release(session, seq),
        }
        sequence.restart();
        self.enqueue(sequence);
        self.metrics.preemptions.inc();
        self.has_suspended = true;
    }

    /// Frees KV space: drops a cached prefix, or else requeues a running sequence. False if fewer than two run: a lone sequence
    /// may have the whole pool.
    pub fn preempt(&mut self, session: &mut Session) -> bool {
        if self.pool.drop_cached(session) {
            return true;
        }
        let lightest = self.running.iter();
        let lightest = lightest.max_by_key(|s| self.place(s).lightness());
        match lightest.map(|s| s.kv.seq) {
            Some(seq) if self.running.len() > 1 => {
                self.requeue(session, seq);
                true
            }
            _ => false,
        }
    }

    /// A sequence's place in the line.
    pub(super) fn place(&self, sequence: &Sequence) -> Place {
        let running = self.running.iter().map(|s| s.origin);
        self.shares.place(sequence.origin, running)
    }

    fn take(&mut self, seq: u32) -> Option<Sequence> {
        let at = self.running.iter().position(|s| s.kv.seq == seq)?;
        Some(self.running.remove(at))
    }

    /// Ends sequences whose reader is gone or too slow, and those past their deadline.
    fn drop_ended(&mut self, session: &mut Session) {
        let now = Instant::now();
        let timeout = self.limits.write_timeout;
        self.waiting
            .retain(|waiting| match waiting.ended(now, timeout) {
                Some(why) => {
                    waiting.fail(why);
                    false
                }
                None => true,
            });
        for at in (0..self.running.len()).rev() {
            let sequence = &mut self.running[at];
            sequence.reader.look_at(now);
            if let Some(why) = sequence.ended(now, timeout) {
                sequence.fail(why);
                let seq = sequence.kv.seq;
                self.finish(session, seq);
            }
        }
    }

    /// Appends the tokens that grammars force, and ends sequences whose grammar is complete.
    fn follow_grammars(&mut self, session: &mut Session) {
        for at in (0..self.running.len()).rev() {
            let sequence = &mut self.running[at];
            let seq = sequence.kv.seq;
            match sequence.follow_grammar() {
                Ok(()) => {
                    if let Some(reason) = sequence.end_by_grammar() {
                        sequence.finish(reason);
                        self.finish(session, seq);
                    }
                }
                Err(error) => {
                    sequence.fail(Failure::Grammar(error));
                    self.finish(session, seq);
                }
            }
        }
    }

    /// Caches the beginnings that later prompts are expected to share, as soon as they are computed.
    fn cache_checkpoints(&mut self, session: &mut Session) {
        for sequence in &mut self.running {
            let seq = sequence.kv.seq;
            if let Some(stored) = sequence.take_checkpoint() {
                self.pool.cache_stored(session, seq, stored);
            }
        }
    }

    /// Frees KV space until the running sequences can store all their pending tokens.
    fn make_room(&mut self, session: &mut Session) {
        while self.pool.free_tokens() < self.promised() && self.preempt(session) {}
    }

    /// KV positions that running sequences still need.
    pub(super) fn promised(&self) -> u32 {
        self.running.iter().map(Sequence::pending).sum()
    }

    fn plan_decodes(&mut self, plan: &mut Plan, cost: &StepCost) {
        let decoding = self.running.iter().filter(|s| s.kv.is_decoding());
        let mut others = decoding.clone().map(Sequence::pending).sum();
        let prompts = self.running.len() - decoding.clone().count();
        let rows = decoding.map(|s| s.rows(s.ready())).sum::<u32>() + prompts as u32;
        let promised = self.promised();
        // Drafts take only tokens, rows and KV space that no sequence needs.
        let mut spare = plan.room().saturating_sub(others);
        spare = spare.min(plan.rows().saturating_sub(rows));
        spare = spare.min(self.pool.free_tokens().saturating_sub(promised));
        for sequence in self.running.iter_mut().filter(|s| s.kv.is_decoding()) {
            sequence.propose(DraftRoom {
                tokens: spare.min(self.max_draft),
                others,
                cost,
            });
            let drafted = sequence.draft().len() as u32;
            spare -= drafted;
            others += drafted;
            plan.add(sequence, u32::MAX);
        }
    }

    /// How many prompt tokens go into this step beside the decoding sequences.
    fn chunk_tokens(&self, plan: &Plan, cost: &StepCost) -> u32 {
        let Some(max_step) = self.limits.max_step else {
            return u32::MAX;
        };
        let max_tokens = plan.len() + plan.room();
        let fitting = cost.tokens_within(max_step.as_secs_f32() * 1e3, max_tokens);
        fitting.saturating_sub(plan.len()).max(MIN_CHUNK_TOKENS)
    }
}
