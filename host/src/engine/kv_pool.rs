//! The session's KV pool: which sequence ids are taken, how much space is left, and which prefixes are cached.
//!
//! The host's own ledger decides what fits. The plugin's numbers are only a hint, but its NO_KV_SPACE is final.

use std::{mem, num::NonZeroU32};

use tenon_plugin_api::{Code, Error, KvLedger, SessionInfo, Span};

use super::{
    prefix_cache::{CachedPrefix, PrefixCache, common_len},
    sequence::Sequence,
};
use crate::plugin::Session;

/// The host's ledger of the KV pool. Every call that changes the pool goes through it.
pub struct KvPool {
    ledger: KvLedger,
    tokens: u32,
    free_seqs: Vec<u32>,
    cache: PrefixCache,
    fork_any_len: bool,
    /// Whether the backend refused a fork as unsupported. It is not asked again.
    refuses_forks: bool,
    max_rollback: u32,
    /// Most cached tokens: each slows every step of a backend that reads its whole pool. None: no limit.
    max_idle_tokens: Option<NonZeroU32>,
    /// Most cached prefixes. The other ids are reserved for running sequences.
    max_cached: usize,
    /// KV positions that only cached prefixes use. None if sequences or prefixes came or went since they were counted.
    idle_tokens: Option<u32>,
}

/// A prefix that a prompt shares with a stored sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The stored sequence; None if there is no common prefix.
    pub seq: Option<u32>,
    pub len: u32,
}

impl KvPool {
    /// A pool of the granted size, in which `max_running` sequences always find an id.
    pub fn new(granted: &SessionInfo, max_running: u32) -> Self {
        Self {
            ledger: KvLedger::new(granted.max_sequences, granted.kv_tokens),
            tokens: granted.kv_tokens,
            free_seqs: (0..granted.max_sequences).rev().collect(),
            cache: PrefixCache::default(),
            fork_any_len: granted.fork_any_len,
            refuses_forks: false,
            max_rollback: granted.max_rollback,
            max_idle_tokens: NonZeroU32::new(granted.costly_idle_tokens),
            max_cached: granted.max_sequences.saturating_sub(max_running) as usize,
            idle_tokens: None,
        }
    }

    /// Whether any beginning of a stored sequence can be shared. False: only whole sequences.
    pub fn forks_any_len(&self) -> bool {
        self.fork_any_len
    }

    /// The pool's size in tokens.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Free KV positions.
    pub fn free_tokens(&self) -> u32 {
        self.ledger.free_tokens()
    }

    /// KV positions used by running sequences and cached prefixes.
    pub fn used_tokens(&self) -> u32 {
        self.ledger.stats().used_tokens
    }

    /// KV positions used by the running sequences; `running` has all of them. The positions of cached prefixes are counted
    /// only if a sequence or a prefix came or went, because decoding does not change them.
    pub fn running_tokens(&mut self, running: &[Sequence]) -> u32 {
        let idle = self.idle_tokens;
        let idle = idle.unwrap_or_else(|| self.count_idle_tokens(running));
        self.idle_tokens = Some(idle);
        self.used_tokens() - idle
    }

    /// Number of cached prefixes.
    pub fn cached_prefixes(&self) -> usize {
        self.cache.len()
    }

    /// Records what a span stored.
    pub fn append(&mut self, span: &Span) {
        // Cannot fail: the schedule follows this ledger. If it did, the plugin's ledger would say so at the next step.
        let booked = self.ledger.append(span);
        debug_assert_eq!(booked, Ok(()));
    }

    /// Drops the positions of a sequence from `len` on.
    pub fn truncate(&mut self, session: &mut Session, seq: u32, len: u32) -> Result<(), Error> {
        session.truncate(seq, len)?;
        self.ledger.truncate(seq, len);
        Ok(())
    }

    /// Frees all KV of a sequence. The sequence keeps its id.
    pub fn clear(&mut self, session: &mut Session, seq: u32) {
        session.free(seq);
        self.ledger.free(seq);
        self.idle_tokens = None;
    }

    /// Frees all KV of a sequence, and its id.
    pub fn release(&mut self, session: &mut Session, seq: u32) {
        self.clear(session, seq);
        self.free_seqs.push(seq);
    }

    /// Caches a sequence with these tokens for prompts that begin like it. `others` go on running.
    pub fn cache(
        &mut self,
        session: &mut Session,
        seq: u32,
        tokens: Vec<u32>,
        others: &[Sequence],
    ) {
        if self.max_cached == 0 || tokens.is_empty() || self.is_cached(&tokens) {
            return self.release(session, seq);
        }
        // If the backend can fork any length, cached beginnings of these tokens are redundant.
        while self.fork_any_len
            && let Some(beginning) = self.cache.take_beginning_of(&tokens)
        {
            self.release(session, beginning.seq);
        }
        self.cache.insert(CachedPrefix { seq, tokens });
        self.idle_tokens = None;
        while self.cache.len() > self.max_cached {
            self.drop_oldest(session, None);
        }
        while self.is_costly(others)
            && let Some(costly) = self.cache.take_oldest_apart()
        {
            self.release(session, costly.seq);
        }
    }

    /// Caches the tokens that a running sequence has stored so far, as a separate prefix.
    pub fn cache_stored(&mut self, session: &mut Session, source: u32, stored: &[u32]) {
        if self.max_cached == 0 || self.refuses_forks || self.is_cached(stored) {
            return;
        }
        while self.cache.len() >= self.max_cached && self.drop_oldest(session, None) {}
        let Some((seq, len)) = self.fork(session, source, stored.len() as u32) else {
            return;
        };
        match len as usize == stored.len() {
            true => self.cache.insert(CachedPrefix {
                seq,
                tokens: stored.to_vec(),
            }),
            false => self.release(session, seq),
        }
    }

    /// Whether a prefix with these tokens would add nothing to the cached ones.
    fn is_cached(&self, tokens: &[u32]) -> bool {
        match self.fork_any_len {
            true => self.cache.holds(tokens),
            false => self.cache.iter().any(|prefix| prefix.tokens == tokens),
        }
    }

    /// Drops the least recently used cached prefix. False if there is none.
    pub fn drop_cached(&mut self, session: &mut Session) -> bool {
        self.drop_oldest(session, None)
    }

    /// The longest stored prefix of a prompt. One token is always left to compute, for its logits.
    pub fn longest_prefix(&self, running: &[Sequence], prompt: &[u32]) -> Prefix {
        let Some((_, prompt)) = prompt.split_last() else {
            return Prefix::default();
        };
        let cached = self.cache.iter();
        let cached = cached.map(|prefix| (prefix.seq, prefix.tokens.as_slice()));
        let running = running.iter().map(|s| (s.kv.seq, s.stored()));
        let common = cached.chain(running).map(|(seq, stored)| {
            let len = common_len(stored, prompt);
            let usable = self.fork_any_len || len as usize == stored.len();
            (seq, if usable { len } else { 0 })
        });
        match common.max_by_key(|&(_, len)| len) {
            Some((seq, len)) if len > 0 => Prefix {
                seq: Some(seq),
                len,
            },
            _ => Prefix::default(),
        }
    }

    /// Claims an id for a sequence that begins with a stored prefix. Returns the id and how many tokens it has stored. The pool
    /// then has room for the rest of `needed` tokens. None if there is no room. With `stays`, a pool that forks only whole
    /// sequences keeps the cached prefix beside the new sequence, because the next prompt that begins so could not fork the new
    /// sequence.
    pub fn claim(
        &mut self,
        session: &mut Session,
        prefix: Prefix,
        needed: u32,
        stays: bool,
    ) -> Option<(u32, u32)> {
        let free = needed - prefix.len;
        while self.free_tokens() < free && self.drop_oldest(session, prefix.seq) {}
        let source = prefix.seq.and_then(|seq| self.cache.get(seq));
        let stays =
            stays && !self.fork_any_len && !self.refuses_forks && !self.free_seqs.is_empty();
        let is_whole = source.is_some_and(|cached| cached.tokens.len() == prefix.len as usize);
        let used_up = is_whole && !stays;
        let (seq, len) = match prefix.seq {
            // Takes the cached sequence itself if all of it is shared, or if its tokens after the shared prefix take room that is
            // needed.
            Some(seq) if source.is_some() && (used_up || self.free_tokens() < free) => {
                (seq, self.take_over(session, seq, prefix.len))
            }
            Some(source) => self.fork(session, source, prefix.len)?,
            None => (self.free_seqs.pop()?, 0),
        };
        if self.free_tokens() < needed - len {
            let idle = self.idle_tokens;
            self.release(session, seq);
            // The released sequence never ran, so the count still holds.
            self.idle_tokens = idle;
            return None;
        }
        self.idle_tokens = None;
        Some((seq, len))
    }

    /// Makes a cached prefix run again with its first `len` tokens. Returns its length: 0 if it cannot be cut.
    fn take_over(&mut self, session: &mut Session, seq: u32, len: u32) -> u32 {
        let stored = self.ledger.len(seq);
        self.cache.take(seq);
        self.idle_tokens = None;
        let can_cut = stored - len <= self.max_rollback;
        if stored == len || (can_cut && self.truncate(session, seq, len).is_ok()) {
            return len;
        }
        self.clear(session, seq);
        0
    }

    /// Makes a sequence that shares the first `len` tokens of another. Returns its id and how many tokens it has.
    fn fork(&mut self, session: &mut Session, source: u32, len: u32) -> Option<(u32, u32)> {
        let seq = self.free_seqs.pop()?;
        self.cache.touch(source);
        let forked = session.fork(source, seq, len);
        self.refuses_forks |= forked
            .as_ref()
            .is_err_and(|why| why.code == Code::UNSUPPORTED);
        // A backend may refuse to fork. Then the prompt is computed.
        let forked = forked.and_then(|()| self.ledger.fork(source, seq, len));
        Some((seq, if forked.is_ok() { len } else { 0 }))
    }

    /// Whether cached prefixes slow down the running sequences. A single prefix never counts as costly, because its conversation
    /// may go on.
    fn is_costly(&self, running: &[Sequence]) -> bool {
        let costly = |most: NonZeroU32| self.count_idle_tokens(running) > most.get();
        self.cache.len() > 1 && self.max_idle_tokens.is_some_and(costly)
    }

    /// KV positions that only cached prefixes use.
    fn count_idle_tokens(&self, running: &[Sequence]) -> u32 {
        let mut is_counted = vec![false; self.tokens as usize];
        let cells = running.iter().flat_map(|s| self.ledger.cells(s.kv.seq));
        let in_use = cells.filter(|&&cell| !mem::replace(&mut is_counted[cell as usize], true));
        self.used_tokens() - in_use.count() as u32
    }

    fn drop_oldest(&mut self, session: &mut Session, spared: Option<u32>) -> bool {
        let oldest = self.cache.take_oldest(spared);
        if let Some(oldest) = &oldest {
            self.release(session, oldest.seq);
        }
        oldest.is_some()
    }
}
