//! The session's KV pool: which sequence ids are taken, how much space is left, and which prefixes are cached.
//!
//! The host's own ledger decides what fits. The plugin's numbers are only a hint, but its NO_KV_SPACE is final.

use std::{collections::HashSet, num::NonZeroU32};

use tenon_plugin_api::{Error, KvLedger, SessionInfo, Span};

use super::{
    prefix_cache::{Kept, PrefixCache, common_len},
    sequence::Sequence,
};
use crate::plugin::Session;

/// The host's ledger of the KV pool. Every call that changes the pool goes through it.
pub struct KvPool {
    ledger: KvLedger,
    tokens: u32,
    free_slots: Vec<u32>,
    kept: PrefixCache,
    fork_any_len: bool,
    max_rollback: u32,
    /// Most tokens kept for later: each slows every step of a backend that reads its whole pool. None: no limit.
    max_idle_tokens: Option<NonZeroU32>,
    /// Most sequences kept. The other ids are reserved for running sequences.
    max_kept: usize,
}

/// A prefix that a prompt shares with a stored sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The stored sequence; None if there is no common prefix.
    pub slot: Option<u32>,
    pub len: u32,
}

impl KvPool {
    /// A pool of the granted size, in which `max_running` sequences always find an id.
    pub fn new(granted: &SessionInfo, max_running: u32) -> Self {
        Self {
            ledger: KvLedger::new(granted.max_sequences, granted.kv_tokens),
            tokens: granted.kv_tokens,
            free_slots: (0..granted.max_sequences).rev().collect(),
            kept: PrefixCache::default(),
            fork_any_len: granted.fork_any_len != 0,
            max_rollback: granted.max_rollback,
            max_idle_tokens: NonZeroU32::new(granted.costly_idle_tokens),
            max_kept: granted.max_sequences.saturating_sub(max_running) as usize,
        }
    }

    /// The pool's size in tokens.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Free KV positions.
    pub fn free_tokens(&self) -> u32 {
        self.ledger.free_tokens()
    }

    /// KV positions used by running and by kept sequences.
    pub fn used_tokens(&self) -> u32 {
        self.ledger.stats().used_tokens
    }

    /// Number of kept sequences.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Records what a span stored.
    pub fn append(&mut self, span: &Span) {
        // Cannot fail: the schedule follows this ledger. If it did, the plugin's ledger would say so at the next step.
        let booked = self.ledger.append(span);
        debug_assert_eq!(booked, Ok(()));
    }

    /// Drops the positions of a sequence from `len` on.
    pub fn truncate(&mut self, session: &mut Session, slot: u32, len: u32) -> Result<(), Error> {
        session.truncate(slot, len)?;
        self.ledger.truncate(slot, len);
        Ok(())
    }

    /// Frees all KV of a sequence. The sequence keeps its id.
    pub fn clear(&mut self, session: &mut Session, slot: u32) {
        session.free(slot);
        self.ledger.free(slot);
    }

    /// Frees all KV of a sequence, and its id.
    pub fn release(&mut self, session: &mut Session, slot: u32) {
        self.clear(session, slot);
        self.free_slots.push(slot);
    }

    /// Keeps a sequence with these tokens for prompts that begin like it. `others` go on running.
    pub fn keep(
        &mut self,
        session: &mut Session,
        slot: u32,
        tokens: Vec<u32>,
        others: &[Sequence],
    ) {
        if self.max_kept == 0 || tokens.is_empty() || self.is_kept(&tokens) {
            return self.release(session, slot);
        }
        // If the backend can fork any length, kept beginnings of these tokens are redundant.
        while self.fork_any_len
            && let Some(beginning) = self.kept.take_beginning_of(&tokens)
        {
            self.release(session, beginning.slot);
        }
        self.kept.insert(Kept { slot, tokens });
        while self.kept.len() > self.max_kept || self.is_costly(others) {
            self.drop_oldest(session, None);
        }
    }

    /// Keeps what a running sequence has stored now, as a sequence of its own.
    pub fn keep_point(&mut self, session: &mut Session, source: u32, stored: &[u32]) {
        if self.max_kept == 0 || self.is_kept(stored) {
            return;
        }
        while self.kept.len() >= self.max_kept && self.drop_oldest(session, None) {}
        let Some((slot, len)) = self.fork(session, source, stored.len() as u32) else {
            return;
        };
        match len as usize == stored.len() {
            true => self.kept.insert(Kept {
                slot,
                tokens: stored.to_vec(),
            }),
            false => self.release(session, slot),
        }
    }

    /// Whether the kept sequences already offer all that one with these tokens would.
    fn is_kept(&self, tokens: &[u32]) -> bool {
        match self.fork_any_len {
            true => self.kept.holds(tokens),
            false => self.kept.iter().any(|kept| kept.tokens == tokens),
        }
    }

    /// Drops the least recently used kept sequence. False if there is none.
    pub fn drop_kept(&mut self, session: &mut Session) -> bool {
        self.drop_oldest(session, None)
    }

    /// The longest stored prefix of a prompt. One token is always left to compute, for its logits.
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

    /// Claims a slot for a sequence that begins with a stored prefix. Returns the slot and how many tokens it has stored. Room
    /// for the rest of `needed` tokens is free then. None if there is no room.
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
            // Takes the kept sequence itself if it ends with the prefix, or if the tokens after the prefix take needed room.
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

    /// Makes a kept sequence run again with its first `len` tokens. Returns its length: 0 if it cannot be cut.
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

    /// Makes a sequence that shares the first `len` tokens of another. Returns its slot and how many tokens it has.
    fn fork(&mut self, session: &mut Session, source: u32, len: u32) -> Option<(u32, u32)> {
        let slot = self.free_slots.pop()?;
        self.kept.touch(source);
        let forked = session.fork(source, slot, len);
        // A backend may refuse to fork. Then the prompt is computed.
        let forked = forked.and_then(|()| self.ledger.fork(source, slot, len));
        Some((slot, if forked.is_ok() { len } else { 0 }))
    }

    /// Whether kept sequences slow down the running ones. The last kept one stays: its conversation may go on.
    fn is_costly(&self, running: &[Sequence]) -> bool {
        let costly = |most: NonZeroU32| self.idle_tokens(running) > most.get();
        self.kept.len() > 1 && self.max_idle_tokens.is_some_and(costly)
    }

    /// KV positions that only kept sequences use.
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
