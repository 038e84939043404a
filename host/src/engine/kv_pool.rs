//! The session's KV pool: which sequence ids are taken, how many places are left, and which prefixes are kept for reuse.
//!
//! The host's own ledger decides what fits. What the plugin says of its pool is a hint, its NO_KV_SPACE the last word.

use std::{collections::HashSet, num::NonZeroU32};

use tenon_plugin_api::{Error, KvLedger, SessionInfo, Span};

use super::{
    prefix_cache::{Kept, PrefixCache, common_len},
    sequence::Sequence,
};
use crate::plugin::Session;

/// The book of the pool. Every call that changes the pool is made through it.
pub struct KvPool {
    ledger: KvLedger,
    free_slots: Vec<u32>,
    kept: PrefixCache,
    fork_any_len: bool,
    max_rollback: u32,
    /// More tokens are not kept for later: each costs time in every step of a backend that looks at its whole pool.
    max_idle_tokens: Option<NonZeroU32>,
    /// Most kept sequences: the running ones have ids of their own.
    max_kept: usize,
}

/// What a prompt has in common with a stored sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The stored sequence; None if there is no common prefix.
    pub slot: Option<u32>,
    pub len: u32,
}

impl KvPool {
    /// A pool as it was granted, in which `max_running` sequences always find an id.
    pub fn new(granted: &SessionInfo, max_running: u32) -> Self {
        Self {
            ledger: KvLedger::new(granted.max_sequences, granted.kv_tokens),
            free_slots: (0..granted.max_sequences).rev().collect(),
            kept: PrefixCache::default(),
            fork_any_len: granted.fork_any_len != 0,
            max_rollback: granted.max_rollback,
            max_idle_tokens: NonZeroU32::new(granted.costly_idle_tokens),
            max_kept: granted.max_sequences.saturating_sub(max_running) as usize,
        }
    }

    /// Places that nobody holds.
    pub fn free_tokens(&self) -> u32 {
        self.ledger.free_tokens()
    }

    /// Places that are held, by running sequences and by kept ones.
    pub fn used_tokens(&self) -> u32 {
        self.ledger.stats().used_tokens
    }

    /// Sequences that are kept for reuse.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Books what a span stored.
    pub fn append(&mut self, span: &Span) {
        // Cannot fail: the schedule kept to the ledger. If it could, the plugin's own book would say so at the next step.
        let booked = self.ledger.append(span);
        debug_assert_eq!(booked, Ok(()));
    }

    /// Drops the positions of a sequence from `len` on.
    pub fn truncate(&mut self, session: &mut Session, slot: u32, len: u32) -> Result<(), Error> {
        session.truncate(slot, len)?;
        self.ledger.truncate(slot, len);
        Ok(())
    }

    /// Gives back all that a sequence has stored.
    pub fn clear(&mut self, session: &mut Session, slot: u32) {
        session.free(slot);
        self.ledger.free(slot);
    }

    /// Gives back all that a sequence holds, its id too.
    pub fn release(&mut self, session: &mut Session, slot: u32) {
        self.clear(session, slot);
        self.free_slots.push(slot);
    }

    /// Keeps what a sequence has stored for prompts that begin like it. The others go on running.
    pub fn keep(&mut self, session: &mut Session, sequence: Sequence, others: &[Sequence]) {
        let (slot, mut tokens) = (sequence.slot, sequence.tokens);
        tokens.truncate(sequence.computed as usize);
        if self.max_kept == 0 || tokens.is_empty() || self.kept.holds(&tokens) {
            return self.release(session, slot);
        }
        // A beginning of it has nothing to offer any more.
        while let Some(beginning) = self.kept.take_beginning_of(&tokens) {
            self.release(session, beginning.slot);
        }
        self.kept.insert(Kept { slot, tokens });
        while self.kept.len() > self.max_kept || self.is_costly(others) {
            self.drop_oldest(session, None);
        }
    }

    /// Drops the kept sequence that was not used for longest. False if there is none.
    pub fn drop_kept(&mut self, session: &mut Session) -> bool {
        self.drop_oldest(session, None)
    }

    /// The longest beginning of a prompt that is stored already. One token is always left to compute, for its logits.
    pub fn longest_prefix(&self, running: &[Sequence], prompt: &[u32]) -> Prefix {
        let Some((_, prompt)) = prompt.split_last() else {
            return Prefix::default();
        };
        let kept = self.kept.iter();
        let kept = kept.map(|kept| (kept.slot, kept.tokens.as_slice()));
        let running = running.iter().map(|s| (s.slot, s.stored()));
        let common = kept.chain(running).map(|(slot, stored)| {
            let len = common_len(stored, prompt);
            let usable = self.fork_any_len || len as usize == stored.len();
            (slot, if usable { len } else { 0 })
        });
        match common.max_by_key(|&(_, len)| len) {
            Some((slot, len)) if len > 0 => Prefix {
                slot: Some(slot),
                len,
            },
            _ => Prefix::default(),
        }
    }

    /// A sequence that begins with a stored prefix, and how much of it: what is left of `needed` is free then. None if there is
    /// no room.
    pub fn claim(
        &mut self,
        session: &mut Session,
        prefix: Prefix,
        needed: u32,
    ) -> Option<(u32, u32)> {
        let free = needed - prefix.len;
        while self.free_tokens() < free && self.drop_oldest(session, prefix.slot) {}
        let source = prefix.slot.and_then(|slot| self.kept.get(slot));
        let used_up = source.is_some_and(|kept| kept.tokens.len() == prefix.len as usize);
        let (slot, len) = match prefix.slot {
            // What follows the prefix is in the way, or there is nothing.
            Some(slot) if source.is_some() && (used_up || self.free_tokens() < free) => {
                (slot, self.take_over(session, slot, prefix.len))
            }
            Some(source) => self.fork(session, source, prefix.len)?,
            None => (self.free_slots.pop()?, 0),
        };
        if self.free_tokens() < needed - len {
            self.release(session, slot);
            return None;
        }
        Some((slot, len))
    }

    /// Makes a kept sequence run again with its first `len` tokens. Returns how many it has.
    fn take_over(&mut self, session: &mut Session, slot: u32, len: u32) -> u32 {
        let stored = self.ledger.len(slot);
        self.kept.take(slot);
        let can_cut = stored - len <= self.max_rollback;
        if stored == len || (can_cut && self.truncate(session, slot, len).is_ok()) {
            return len;
        }
        self.clear(session, slot);
        0
    }

    /// A new sequence that shares the first `len` tokens of another, and how many it has.
    fn fork(&mut self, session: &mut Session, source: u32, len: u32) -> Option<(u32, u32)> {
        let slot = self.free_slots.pop()?;
        self.kept.touch(source);
        let forked = session.fork(source, slot, len);
        // A backend may refuse: the prompt is computed then.
        let forked = forked.and_then(|()| self.ledger.fork(source, slot, len));
        Some((slot, if forked.is_ok() { len } else { 0 }))
    }

    /// Whether kept sequences slow down those that run. The last one stays: it is the conversation that may go on.
    fn is_costly(&self, running: &[Sequence]) -> bool {
        let costly = |most: NonZeroU32| self.idle_tokens(running) > most.get();
        self.kept.len() > 1 && self.max_idle_tokens.is_some_and(costly)
    }

    /// Places that only kept sequences hold.
    fn idle_tokens(&self, running: &[Sequence]) -> u32 {
        let running = running.iter().flat_map(|s| self.ledger.cells(s.slot));
        self.used_tokens() - running.collect::<HashSet<_>>().len() as u32
    }

    fn drop_oldest(&mut self, session: &mut Session, spared: Option<u32>) -> bool {
        let oldest = self.kept.take_oldest(spared);
        if let Some(oldest) = &oldest {
            self.release(session, oldest.slot);
        }
        oldest.is_some()
    }
}
