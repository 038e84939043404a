//! Chooses the prompts of the next step, and admits waiting sequences.
//!
//! A waiting sequence is admitted under two conditions. The step must have room for some of its prompt, so no sequence holds a
//! place before its prefill starts. The KV pool must have room for all that this sequence and the running ones still have to
//! store, so every prefill that was started can be finished. A sequence that is owed a share (`shares.rs`) and finds no place
//! takes the place of another sequence, which then waits again.
//!
//! Shorter prompts may overtake a prompt that finds no room in the pool, as long as it would find none even without them. Once it
//! would find room, the sequences of its own client that overtook it give way.

use std::mem;

use super::{
    kv_pool::Prefix,
    plan::Plan,
    prefill::{Prefill, PrefillRoom, divide},
    prefix_cache::common_len,
    scheduler::Scheduler,
    sequence::Sequence,
    shares::Origin,
    step_cost::StepCost,
};
use crate::plugin::Session;

/// A prompt waits for another one that is being computed if that saves at least this many tokens.
const WORTH_WAITING_TOKENS: u32 = 32;

/// Outcome of trying to admit a waiting sequence.
enum Admission {
    Admitted,
    /// The sequence must wait for another prompt, or for a place.
    NotYet,
    /// The KV pool has no room for the sequence.
    NoRoom,
}

impl Scheduler {
    /// Adds parts of prompts to the step. Waiting sequences may be admitted if `admits`.
    pub(super) fn plan_prompts(
        &mut self,
        session: &mut Session,
        plan: &mut Plan,
        cost: &StepCost,
        admits: bool,
    ) {
        let room = PrefillRoom {
            tokens: plan.room(),
            others: plan.len(),
            cost,
        };
        if room.tokens == 0 {
            return;
        }
        let mut prefills = mem::take(&mut self.prefills);
        self.collect_running(&mut prefills);
        if admits {
            self.collect_waiting(&mut prefills);
        }
        self.admit_all(session, &mut prefills, room);
        for prompt in prefills.drain(..) {
            if let Some(sequence) = self.running.iter().find(|s| s.origin == prompt.origin) {
                plan.add(sequence, prompt.part);
            }
        }
        self.prefills = prefills;
    }

    fn collect_running(&self, prefills: &mut Vec<Prefill>) {
        let prompts = self.running.iter();
        let prompts = prompts.filter(|s| !s.kv.is_decoding() && s.ready() > 0);
        prefills.extend(prompts.map(|s| Prefill {
            origin: s.origin,
            place: self.place(s),
            tokens: s.ready(),
            runs: true,
            part: 0,
            waits: false,
        }));
    }

    /// Collects waiting prompts that need not wait for another prompt or for a place.
    fn collect_waiting(&mut self, prefills: &mut Vec<Prefill>) {
        let mut places = mem::take(&mut self.places);
        places.clear();
        places.extend(self.running.iter().map(|s| (s.origin, self.place(s))));
        let has_place = self.running.len() < self.max_running;
        for waiting in &self.waiting {
            let (place, to) = (self.place(waiting), waiting.origin);
            let mut running = places.iter();
            if !has_place && !running.any(|&(of, running)| running.gives_way(of, &place, to)) {
                continue;
            }
            let stored = self.reusable(waiting);
            if !self.is_on_its_way(waiting, stored) {
                prefills.push(Prefill {
                    origin: waiting.origin,
                    place,
                    tokens: waiting.pending() - stored.len,
                    runs: false,
                    part: 0,
                    waits: false,
                });
            }
        }
        self.places = places;
    }

    /// Divides the room of the step, and admits the waiting sequences that get a part of it.
    fn admit_all(
        &mut self,
        session: &mut Session,
        prefills: &mut Vec<Prefill>,
        room: PrefillRoom<'_>,
    ) {
        let mut is_full = false;
        divide(prefills, room);
        while let Some(at) = next_to_admit(prefills) {
            match self.admit(session, prefills[at].origin) {
                Admission::Admitted => self.update(prefills),
                Admission::NotYet => drop(prefills.remove(at)),
                Admission::NoRoom => {
                    let blocked = prefills.remove(at).origin;
                    // Shorter prompts may still fit, but trying them all would take too long.
                    if is_full || !self.may_be_overtaken(blocked) {
                        prefills.retain(|prompt| prompt.runs);
                    }
                    is_full = true;
                }
            }
            divide(prefills, room);
        }
    }

    /// Updates the places in line after a sequence was admitted.
    fn update(&self, prefills: &mut [Prefill]) {
        let running = || self.running.iter().map(|s| s.origin);
        for prompt in prefills {
            prompt.runs = running().any(|origin| origin == prompt.origin);
            prompt.place = self.shares.place(prompt.origin, running());
        }
    }

    /// Whether a sequence that found no room would find none even without the sequences that arrived after it.
    fn may_be_overtaken(&self, blocked: Origin) -> bool {
        let earlier = self.running.iter();
        let earlier = earlier.filter(|s| s.origin.arrival < blocked.arrival);
        let blocked = self.waiting.iter().find(|s| s.origin == blocked);
        blocked.is_some_and(|blocked| !self.fits_beside(blocked, earlier))
    }

    /// Whether the pool has room for a sequence beside these. Errs towards no: a common prefix counts once for each sequence.
    fn fits_beside<'a>(
        &self,
        sequence: &Sequence,
        others: impl Iterator<Item = &'a Sequence>,
    ) -> bool {
        let others: usize = others.map(|s| s.tokens.len()).sum();
        others + sequence.tokens.len() <= self.pool.tokens() as usize
    }

    /// Admits a waiting sequence. If it is owed a share, others may be suspended for it.
    fn admit(&mut self, session: &mut Session, origin: Origin) -> Admission {
        let Some(at) = self.waiting.iter().position(|s| s.origin == origin) else {
            return Admission::NotYet;
        };
        let prefix = self.reusable(&self.waiting[at]);
        if self.is_on_its_way(&self.waiting[at], prefix) {
            return Admission::NotYet;
        }
        let has_place = self.running.len() < self.max_running;
        if has_place && self.begin(session, at, prefix) || self.begin_instead(session, at) {
            return Admission::Admitted;
        }
        match has_place {
            true => Admission::NoRoom,
            false => Admission::NotYet,
        }
    }

    /// Starts a waiting sequence in place of others. False if too few have to give way to it.
    fn begin_instead(&mut self, session: &mut Session, at: usize) -> bool {
        let mut leaving = mem::take(&mut self.leaving);
        let is_enough = self.choose_leaving(&self.waiting[at], &mut leaving);
        if is_enough {
            for &seq in &leaving {
                self.suspend(session, seq);
            }
        }
        self.leaving = leaving;
        // Its longest cached prefix may now be that of a suspended sequence.
        is_enough && self.begin(session, at, self.reusable(&self.waiting[at]))
    }

    /// Starts a waiting sequence. False if the KV pool has no room.
    fn begin(&mut self, session: &mut Session, at: usize, prefix: Prefix) -> bool {
        let needed = self.promised() + self.waiting[at].pending();
        // A prefix that a suspended sequence left behind is of no use to others.
        let stays = self.waiting[at].is_new();
        let Some((seq, stored)) = self.pool.claim(session, prefix, needed, stays) else {
            return false;
        };
        let mut sequence = self.waiting.remove(at);
        let looked_up = sequence.reusable_tokens().len() as u64;
        self.metrics.prefix_lookup_tokens.inc_by(looked_up);
        self.metrics.cached_tokens.inc_by(stored.into());
        sequence.start(seq, stored);
        // An error here occurs again when the next step is planned, and is reported then.
        let _ = sequence.follow_grammar();
        self.running.push(sequence);
        true
    }

    /// Chooses sequences that must give way so that a waiting sequence finds a place and room. False if they are not enough.
    fn choose_leaving(&self, waiting: &Sequence, leaving: &mut Vec<u32>) -> bool {
        leaving.clear();
        loop {
            let staying = || self.running.iter().filter(|s| !leaving.contains(&s.kv.seq));
            let has_place = staying().count() < self.max_running;
            if has_place && self.fits_beside(waiting, staying()) {
                return true;
            }
            let place = |s: &Sequence| self.shares.place(s.origin, staying().map(|s| s.origin));
            let (wanted, to) = (place(waiting), waiting.origin);
            let gives_way = |s: &&Sequence| {
                let (of, place) = (s.origin, place(s));
                place.gives_way(of, &wanted, to) || has_place && place.overtook(of, &wanted, to)
            };
            let lightest = staying().filter(gives_way);
            let Some(lightest) = lightest.max_by_key(|s| place(s).lightness()) else {
                return false;
            };
            leaving.push(lightest.kv.seq);
        }
    }

    /// The cached prefix of a waiting sequence.
    fn reusable(&self, waiting: &Sequence) -> Prefix {
        match waiting.reusable_tokens() {
            [] => Prefix::default(),
            tokens => self.pool.longest_prefix(&self.running, tokens),
        }
    }

    /// Whether a prompt that is being computed shares a prefix with this one, long enough that waiting for it saves work.
    fn is_on_its_way(&self, waiting: &Sequence, stored: Prefix) -> bool {
        let tokens = waiting.reusable_tokens();
        let prompts = self.running.iter().filter(|s| !s.kv.is_decoding());
        prompts
            .map(|prompt| {
                let common = common_len(&prompt.tokens, tokens);
                match self.pool.forks_any_len() {
                    true => common,
                    false => prompt.kv.next_checkpoint_within(common),
                }
            })
            .any(|len| len >= stored.len + WORTH_WAITING_TOKENS)
    }
}

/// The first in line of the waiting prompts that get tokens of the step.
fn next_to_admit(prefills: &[Prefill]) -> Option<usize> {
    let waiting = prefills.iter().enumerate();
    let waiting = waiting.filter(|(_, prompt)| !prompt.runs && prompt.part > 0);
    let first = waiting.min_by_key(|(_, prompt)| prompt.place);
    first.map(|(at, _)| at)
}
