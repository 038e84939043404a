//! Prompt-lookup drafts (Saxena 2023, "Prompt Lookup Decoding"). A text often goes on as it did before. So the tokens that
//! followed an earlier occurrence of the last tokens are the draft. The model computes them in one step, and they are kept
//! as far as they equal the sampled tokens.
//!
//! Whether drafts pay depends on the text and on the machine. Judging the text is free: every sampled token is compared
//! with the token that would have been drafted, even if there was no draft. The machine is judged by the times of its
//! steps.

use super::step_cost::StepCost;

/// The drafts of one sequence. The buffer is reused for every draft.
#[derive(Debug)]
pub struct Drafter {
    /// Tokens that the next step tries. Empty: no draft.
    draft: Vec<u32>,
    /// How many draft tokens were accepted.
    accepted: usize,
    /// Position in the sequence of the token that is expected next.
    track: Option<usize>,
    /// Share of recent guesses that were right.
    hit_rate: f32,
}

/// Room that a step has for a draft.
#[derive(Clone, Copy, Debug)]
pub struct DraftRoom<'a> {
    /// Most tokens of the draft.
    pub tokens: u32,
    /// Tokens of the step without the draft.
    pub others: u32,
    pub cost: &'a StepCost,
}

/// Length of the key: the last tokens, which must occur earlier in the text.
const KEY: usize = 3;

/// Most tokens to search back for the key. Limits the work of a step in long contexts.
const MAX_DISTANCE: usize = 16 * 1024;

/// Most tokens before the key that are compared to choose between several occurrences.
const MAX_CONTEXT: usize = 32;

/// Weight of the newest guess.
const NEWEST: f32 = 0.2;

impl Drafter {
    /// `max_tokens` is the length of the longest draft.
    pub fn new(max_tokens: u32) -> Self {
        Self {
            draft: Vec::with_capacity(max_tokens as usize),
            accepted: 0,
            track: None,
            hit_rate: 0.5,
        }
    }

    /// The draft: tokens that the next step tries.
    pub fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// Drafts what may follow `tokens`, the sequence so far.
    pub fn propose(&mut self, tokens: &[u32], room: DraftRoom<'_>) {
        self.clear();
        if self.draft.capacity() == 0 {
            return;
        }
        self.track = self.track.or_else(|| find(tokens));
        let Some(from) = self.track else { return };
        let seen = &tokens[from..];
        let most = seen.len().min(self.draft.capacity());
        let most = most.min(room.tokens as usize);
        let len = self.best_len(most as u32, room);
        self.draft.extend_from_slice(&seen[..len as usize]);
    }

    /// Drops the draft.
    pub fn clear(&mut self) {
        self.draft.clear();
        self.accepted = 0;
    }

    /// How many draft tokens were accepted.
    pub fn accepted(&self) -> u32 {
        self.accepted as u32
    }

    /// Accepts the sampled token if it is the draft's next one. False if not.
    pub fn accept(&mut self, token: u32) -> bool {
        let right = self.draft.get(self.accepted) == Some(&token);
        self.accepted += usize::from(right);
        right
    }

    /// Learns from the token that followed `tokens`.
    pub fn observe(&mut self, tokens: &[u32], next: u32) {
        let Some(at) = self.track else { return };
        let hit = tokens.get(at) == Some(&next);
        self.hit_rate += NEWEST * (f32::from(u8::from(hit)) - self.hit_rate);
        self.track = hit.then_some(at + 1);
    }

    /// The length that yields the most expected tokens per time; 0 if no draft pays.
    fn best_len(&self, most: u32, room: DraftRoom<'_>) -> u32 {
        let DraftRoom { others, cost, .. } = room;
        let Some(plain) = cost.predict_ms(others) else {
            return 0;
        };
        let mut best = (0, others as f32 / plain);
        // A draft token is accepted only if all before it are.
        let (mut accepted, mut expected) = (1.0, others as f32);
        for len in 1..=most {
            accepted *= self.hit_rate;
            expected += accepted;
            let rate = expected / cost.predict_ms(others + len).unwrap_or(plain);
            if rate > best.1 {
                best = (len, rate);
            }
        }
        best.0
    }
}

/// The position after an earlier occurrence of the last tokens. Of several occurrences, the one with the longest common text
/// before it counts, and of equal ones the latest.
fn find(tokens: &[u32]) -> Option<usize> {
    let (_, key) = tokens.split_last_chunk::<KEY>()?;
    let begin = tokens.len().saturating_sub(MAX_DISTANCE);
    let earlier = &tokens[begin..tokens.len() - 1];
    let ends = earlier.windows(KEY).enumerate();
    let ends = ends.filter(|(_, window)| window == key);
    ends.map(|(at, _)| begin + at + KEY)
        .max_by_key(|&end| common_context(tokens, end))
}

/// How many tokens before `end` equal the last tokens.
fn common_context(tokens: &[u32], end: usize) -> usize {
    let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
    let pairs = pairs.take(MAX_CONTEXT);
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Steps that all cost the same, so that every draft pays.
    fn flat() -> StepCost {
        cost(10, 10)
    }

    fn cost(one: u64, hundred: u64) -> StepCost {
        let mut cost = StepCost::default();
        cost.record(1, Duration::from_millis(one));
        cost.record(100, Duration::from_millis(hundred));
        cost
    }

    #[track_caller]
    fn check(tokens: &[u32], hits: usize, cost: &StepCost, expected: &[u32]) {
        let mut drafter = Drafter::new(8);
        for _ in 0..hits {
            drafter.track = Some(0);
            drafter.observe(&[1], 1);
        }
        drafter.track = None;
        let room = DraftRoom {
            tokens: 8,
            others: 1,
            cost,
        };
        drafter.propose(tokens, room);
        assert_eq!(drafter.draft(), expected);
    }

    #[test]
    fn a_text_goes_on_as_it_did_before() {
        check(&[1, 2, 3, 4, 5, 1, 2, 3], 0, &flat(), &[4, 5, 1, 2, 3]);
        check(&[1, 2, 3, 4, 5, 6, 1, 2], 0, &flat(), &[]);
        check(&[7, 7, 7, 7], 0, &flat(), &[7]);
        check(&[], 0, &flat(), &[]);
    }

    #[test]
    fn of_several_places_the_one_with_more_in_common_is_taken() {
        let tokens = [9, 1, 2, 3, 4, 8, 1, 2, 3, 5, 9, 1, 2, 3];
        check(&tokens, 0, &flat(), &[4, 8, 1, 2, 3, 5, 9, 1]);
        check(&tokens[1..10], 0, &flat(), &[]);
        let tokens = [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3];
        check(&tokens, 0, &flat(), &[5, 1, 2, 3]);
    }

    #[test]
    fn drafts_are_made_only_where_they_pay() {
        let tokens = [1, 2, 3, 4, 5, 1, 2, 3];
        // Every token costs as much as the first: a draft token saves no time.
        check(&tokens, 50, &cost(10, 1000), &[]);
        // A draft token costs a third of a step, which pays only if most guesses are right.
        let third = cost(10, 340);
        check(&tokens, 0, &third, &[4]);
        check(&tokens, 50, &third, &[4, 5, 1, 2, 3]);
        check(&tokens, 50, &StepCost::default(), &[]);
    }

    #[test]
    fn every_sampled_token_teaches() {
        let mut drafter = Drafter::new(8);
        let tokens = [1, 2, 3, 4, 5, 1, 2, 3];
        drafter.track = find(&tokens);
        drafter.observe(&tokens, 4);
        assert!(drafter.hit_rate > 0.5);
        assert_eq!(drafter.track, Some(4));
        let before = drafter.hit_rate;
        drafter.observe(&[&tokens[..], &[4]].concat(), 6);
        assert!(drafter.hit_rate < before);
        assert_eq!(drafter.track, None);
    }

    #[test]
    fn a_drafter_without_room_drafts_nothing() {
        let mut drafter = Drafter::new(0);
        let cost = flat();
        let room = DraftRoom {
            tokens: 8,
            others: 1,
            cost: &cost,
        };
        drafter.propose(&[1, 2, 3, 4, 1, 2, 3], room);
        assert!(drafter.draft().is_empty());
    }
}
