//! Which sequences take part in the next step, and with how many tokens.
//!
//! Decoding sequences come first, with a draft each where that pays; then prompts, in chunks, until the batch is full or, if
//! somebody is decoding, the step would take too long. A sequence is admitted when the KV pool has room for all that it and
//! the running ones still have to store, so a prompt that was begun can be finished. What running sequences store beyond
//! that may still fill the pool: then kept prefixes go, and after them the youngest sequence is preempted, which means
//! that it waits again and is computed anew later.

use std::{collections::VecDeque, time::Instant};

use tenon_plugin_api::{SessionInfo, Span};

use super::{
    EngineLimits, Failure, Sequence,
    draft::DraftRoom,
    kv_pool::{KvPool, Prefix},
    metrics::EngineMetrics,
    plan::Plan,
    prefix_cache::common_len,
    step_cost::StepCost,
};
use crate::plugin::Session;

/// The sequences of one model and the book of its KV pool.
pub struct Scheduler {
    /// Those of lower priority number first, then in order of arrival.
    pub waiting: VecDeque<Sequence>,
    /// In order of admission, so the last is the youngest.
    pub running: Vec<Sequence>,
    pool: KvPool,
    max_running: usize,
    /// Longest draft: no longer than the backend can take back.
    max_draft: u32,
    limits: EngineLimits,
    metrics: EngineMetrics,
}

/// A prompt waits for another one that is being computed if that saves it so many tokens.
const WORTH_WAITING_TOKENS: u32 = 32;

/// However slow steps are, prompts get so many tokens of each.
const MIN_CHUNK_TOKENS: u32 = 16;

impl Scheduler {
    pub fn new(granted: &SessionInfo, limits: EngineLimits, metrics: EngineMetrics) -> Self {
        // Every running sequence must be able to decode in every step.
        let max_running = limits.max_running.min(granted.max_sequences);
        let max_running = max_running.min(granted.max_rows);
        let max_running = max_running.min(granted.max_batch_tokens);
        Self {
            waiting: VecDeque::new(),
            running: Vec::with_capacity(max_running as usize),
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

    /// Takes a new sequence, or one that has to begin anew, to its place among those that wait.
    pub fn enqueue(&mut self, sequence: Sequence) {
        let rank = |s: &Sequence| (s.priority, s.arrival);
        let at = self
            .waiting
            .partition_point(|earlier| rank(earlier) <= rank(&sequence));
        self.waiting.insert(at, sequence);
    }

    /// Plans the next step.
    pub fn schedule(&mut self, session: &mut Session, plan: &mut Plan, cost: &StepCost) {
        self.drop_ended(session);
        self.follow_grammars(session);
        self.make_room(session);
        plan.clear();
        self.plan_decodes(plan, cost);
        if !plan.spans.is_empty() {
            plan.limit(self.chunk_tokens(plan, cost));
        }
        for prompt in self.running.iter().filter(|s| !s.is_decoding()) {
            plan.add(prompt);
        }
        while plan.room() > 0
            && let Some(admitted) = self.admit(session)
        {
            plan.add(admitted);
        }
        self.report();
    }

    /// Shows how much there is to do. Also to be called when nothing is left, because no schedule follows then.
    pub fn report(&self) {
        self.metrics.running.set(self.running.len() as i64);
        self.metrics.waiting.set(self.waiting.len() as i64);
        self.metrics.kept.set(self.pool.kept() as i64);
        self.metrics
            .kv_used_tokens
            .set(self.pool.used_tokens().into());
    }

    /// Books what a span stored.
    pub fn commit(&mut self, span: &Span) {
        self.pool.append(span);
        if let Some(sequence) = self.get_mut(span.seq) {
            sequence.computed += span.len;
        }
    }

    /// Takes back what was stored of a draft and not kept.
    pub fn roll_back(&mut self, session: &mut Session, slot: u32) {
        let Some(sequence) = self.running.iter_mut().find(|s| s.slot == slot) else {
            return;
        };
        let kept = sequence.tokens.len() as u32 - 1;
        if sequence.computed <= kept {
            return;
        }
        sequence.computed = kept;
        // Where a backend cannot, all of the sequence is computed anew.
        if self.pool.truncate(session, slot, kept).is_err() {
            self.pool.clear(session, slot);
            sequence.restart();
        }
    }

    /// The running sequence in this slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Sequence> {
        self.running.iter_mut().find(|s| s.slot == slot)
    }

    /// Takes a sequence out that is over. Its KV is kept for prompts that begin like it.
    pub fn finish(&mut self, session: &mut Session, slot: u32) {
        let Some(sequence) = self.take(slot) else {
            return;
        };
        match sequence.cache_prompt {
            true => self.pool.keep(session, sequence, &self.running),
            false => self.pool.release(session, slot),
        }
    }

    /// Takes a sequence out and gives its KV back.
    pub fn remove(&mut self, session: &mut Session, slot: u32) -> Option<Sequence> {
        let sequence = self.take(slot)?;
        self.pool.release(session, slot);
        Some(sequence)
    }

    /// Puts a running sequence back, to be computed anew.
    pub fn requeue(&mut self, session: &mut Session, slot: u32) {
        if let Some(mut sequence) = self.remove(session, slot) {
            sequence.restart();
            self.enqueue(sequence);
            self.metrics.preemptions.inc();
        }
    }

    /// Frees places: those of kept sequences, else those of the youngest of the running ones that matter least. False if there
    /// are not two: a lone sequence has the whole pool.
    pub fn preempt(&mut self, session: &mut Session) -> bool {
        if self.pool.drop_kept(session) {
            return true;
        }
        let youngest = self.running.iter().max_by_key(|s| s.priority);
        match youngest.map(|s| s.slot) {
            Some(slot) if self.running.len() > 1 => {
                self.requeue(session, slot);
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, slot: u32) -> Option<Sequence> {
        let at = self.running.iter().position(|s| s.slot == slot)?;
        Some(self.running.remove(at))
    }

    /// Ends what nobody waits for any more, and what took too long.
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
            sequence.look_at_reader(now);
            if let Some(why) = sequence.ended(now, timeout) {
                sequence.fail(why);
                let slot = sequence.slot;
                self.finish(session, slot);
            }
        }
    }

    /// Takes what grammars force, and ends sequences whose grammar does.
    fn follow_grammars(&mut self, session: &mut Session) {
        for at in (0..self.running.len()).rev() {
            let sequence = &mut self.running[at];
            let slot = sequence.slot;
            match sequence.follow_grammar() {
                Ok(()) => {
                    if let Some(reason) = sequence.end_by_grammar() {
                        sequence.finish(reason);
                        self.finish(session, slot);
                    }
                }
                Err(error) => {
                    sequence.fail(Failure::Grammar(error));
                    self.finish(session, slot);
                }
            }
        }
    }

    /// Sees to it that the running sequences find places for all that they still have to store.
    fn make_room(&mut self, session: &mut Session) {
        while self.pool.free_tokens() < self.promised() && self.preempt(session) {}
    }

    /// Places that running sequences still need.
    fn promised(&self) -> u32 {
        self.running.iter().map(Sequence::pending).sum()
    }

    fn plan_decodes(&mut self, plan: &mut Plan, cost: &StepCost) {
        let decoding = self.running.iter().filter(|s| s.is_decoding());
        let mut others = decoding.map(Sequence::pending).sum();
        let promised = self.promised();
        // Drafts take only what nobody needs.
        let mut spare = plan.room().saturating_sub(others);
        spare = spare.min(plan.rows().saturating_sub(self.running.len() as u32));
        spare = spare.min(self.pool.free_tokens().saturating_sub(promised));
        for sequence in self.running.iter_mut().filter(|s| s.is_decoding()) {
            sequence.propose(DraftRoom {
                tokens: spare.min(self.max_draft),
                others,
                cost,
            });
            let drafted = sequence.draft().len() as u32;
            spare -= drafted;
            others += drafted;
            plan.add(sequence);
        }
    }

    /// How many tokens of prompts go beside the decoding sequences of this step.
    fn chunk_tokens(&self, plan: &Plan, cost: &StepCost) -> u32 {
        let Some(max_step) = self.limits.max_step else {
            return u32::MAX;
        };
        let max_tokens = plan.len() + plan.room();
        let fitting = cost.tokens_within(max_step.as_secs_f32() * 1e3, max_tokens);
        fitting.saturating_sub(plan.len()).max(MIN_CHUNK_TOKENS)
    }

    /// Admits the first sequence that has nothing to wait for, if there is room for it.
    fn admit(&mut self, session: &mut Session) -> Option<&Sequence> {
        if self.running.len() >= self.max_running {
            return None;
        }
        let candidates = self.waiting.iter().enumerate();
        let mut candidates = candidates.map(|(at, waiting)| (at, self.reusable(waiting)));
        let (at, prefix) = candidates.find(|&(at, prefix)| !self.is_on_its_way(at, prefix))?;
        drop(candidates);
        let needed = self.promised() + self.waiting[at].pending();
        let (slot, stored) = self.pool.claim(session, prefix, needed)?;
        let mut sequence = self.waiting.remove(at)?;
        self.metrics.cached_tokens.inc_by(stored.into());
        sequence.start(slot, stored);
        // What goes wrong goes wrong again when the next step is planned, and is told then.
        let _ = sequence.follow_grammar();
        self.running.push(sequence);
        self.running.last()
    }

    /// What a waiting sequence need not compute.
    fn reusable(&self, waiting: &Sequence) -> Prefix {
        match waiting.reusable_tokens() {
            [] => Prefix::default(),
            tokens => self.pool.longest_prefix(&self.running, tokens),
        }
    }

    /// Whether a prompt that is being computed begins like this one, so that waiting for it saves more than is stored now.
    fn is_on_its_way(&self, at: usize, stored: Prefix) -> bool {
        let tokens = self.waiting[at].reusable_tokens();
        let prompts = self.running.iter().filter(|s| !s.is_decoding());
        prompts
            .map(|prompt| common_len(&prompt.tokens, tokens))
            .any(|len| len >= stored.len + WORTH_WAITING_TOKENS)
    }
}
