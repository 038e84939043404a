//! Divides the prompt tokens of a step among the prompts that are being prefilled.
//!
//! 1. The prompt that is first in line gets half of the room, so that a long prompt is never left behind.
//! 2. The rest goes to the shortest prompts. A short prompt waits for a step or two, not for the prefill of longer ones.
//! 3. A step that finishes prompts takes about twice the time that these prompts alone would take, not that of a full
//!    batch. So the longer prompts get only a limited number of its tokens.
//! 4. Prompts that a step finishes have their first tokens when all of them are read. So a step finishes several only if that
//!    takes at least a tenth less time than one after the other.

use super::{
    shares::{Origin, Place},
    step_cost::StepCost,
};

/// A prompt that has tokens to prefill.
#[derive(Clone, Copy, Debug)]
pub struct Prefill {
    pub origin: Origin,
    pub place: Place,
    /// Tokens that are still to be prefilled.
    pub tokens: u32,
    /// Whether the sequence is admitted.
    pub runs: bool,
    /// How many of the tokens the next step prefills.
    pub part: u32,
    /// Whether the prompt waits until those that the next step finishes are read.
    pub waits: bool,
}

/// Room of a step for prompts.
#[derive(Clone, Copy, Debug)]
pub struct PrefillRoom<'a> {
    /// Most prompt tokens.
    pub tokens: u32,
    /// Other tokens of the step.
    pub others: u32,
    pub cost: &'a StepCost,
}

impl PrefillRoom<'_> {
    /// Whether a step that finishes prompts of `ending` tokens should also finish one of `tokens` tokens.
    fn joins(&self, ending: u32, tokens: u32) -> bool {
        let ms = |prompts: u32| self.cost.predict_ms(self.others + prompts);
        let (Some(one), Some(other), Some(both)) = (ms(ending), ms(tokens), ms(ending + tokens))
        else {
            return true;
        };
        ending == 0 || both <= (1.0 - MAX_LOSS) * (one + other)
    }

    /// How many tokens the longer prompts get in a step that finishes prompts of `ending` tokens.
    fn beside(&self, ending: u32) -> u32 {
        let left = self.tokens - ending;
        if ending == 0 {
            return left;
        }
        let alone = self.others + ending;
        let twice = self.cost.predict_ms(alone).map_or(alone, |ms| {
            self.cost.tokens_within(2.0 * ms, self.others + self.tokens)
        });
        let more = twice.saturating_sub(alone);
        more.max(ending).max(MIN_SHARED_TOKENS).min(left)
    }
}

/// Fewest tokens that longer prompts get in a step that finishes others, however short those are.
const MIN_SHARED_TOKENS: u32 = 16;

/// Largest share of the time that prompts may take longer because they are finished one after the other.
const MAX_LOSS: f32 = 0.1;

/// Divides the room among prompts, and sorts them: shorter ones first, about equally long ones by their places in line.
pub fn divide(prompts: &mut [Prefill], room: PrefillRoom<'_>) {
    // Lengths are compared by their power of two: if about equal prompts took turns, all of them would be late.
    prompts.sort_unstable_by_key(|p| (p.place.urgency, p.tokens.max(1).ilog2(), p.place));
    let Some(first) = (0..prompts.len()).min_by_key(|&at| prompts[at].place) else {
        return;
    };
    let half = room.tokens.div_ceil(2);
    let ending = read_to_the_end(prompts, first, room, half);
    let mut shared = room.beside(ending);
    give(&mut prompts[first], half, &mut shared);
    for prompt in prompts.iter_mut().filter(|prompt| !prompt.waits) {
        give(prompt, u32::MAX, &mut shared);
    }
}

/// Gives prompts that the step finishes all their tokens, and the others none. Returns the sum.
fn read_to_the_end(prompts: &mut [Prefill], first: usize, room: PrefillRoom<'_>, half: u32) -> u32 {
    let kept_for_first = prompts[first].tokens.min(half);
    let mut left = room.tokens - kept_for_first;
    let mut ending = match prompts[first].tokens <= half {
        true => kept_for_first,
        false => 0,
    };
    prompts[first].part = ending;
    for (at, prompt) in prompts.iter_mut().enumerate() {
        if at == first {
            continue;
        }
        let fits = prompt.tokens <= left;
        prompt.waits = fits && !room.joins(ending, prompt.tokens);
        if fits && !prompt.waits {
            prompt.part = prompt.tokens;
            ending += prompt.tokens;
            left -= prompt.tokens;
        } else {
            prompt.part = 0;
        }
    }
    ending
}

fn give(prompt: &mut Prefill, most: u32, left: &mut u32) {
    let more = (prompt.tokens - prompt.part).min(most).min(*left);
    prompt.part += more;
    *left -= more;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::shares::{ClientId, Shares},
        *,
    };

    /// Prompts by client and tokens, in the order of arrival. All of them run.
    fn prompts(given: &[(u64, u32)]) -> Vec<Prefill> {
        let origins = given.iter().zip(0..).map(|(&(client, _), arrival)| Origin {
            client: ClientId(client),
            request: arrival,
            arrival,
            priority: 0,
        });
        let origins: Vec<_> = origins.collect();
        let place = |origin| Shares::new(0).place(origin, origins.iter().copied());
        let prompt = |(&origin, &(_, tokens))| Prefill {
            origin,
            place: place(origin),
            tokens,
            runs: true,
            part: 0,
            waits: false,
        };
        origins.iter().zip(given).map(prompt).collect()
    }

    /// Checks the parts of one client's prompts, in the order of arrival.
    #[track_caller]
    fn check(tokens: &[u32], room: u32, expected: &[u32]) {
        let cost = StepCost::default();
        check_at(&cost, tokens, room, expected);
    }

    #[track_caller]
    fn check_at(cost: &StepCost, tokens: &[u32], room: u32, expected: &[u32]) {
        let given: Vec<_> = tokens.iter().map(|&tokens| (0, tokens)).collect();
        let parts = parts(&given, room, cost);
        assert_eq!(parts, expected);
        assert!(parts.iter().sum::<u32>() <= room);
    }

    /// The parts of these prompts, in the order of arrival.
    fn parts(given: &[(u64, u32)], room: u32, cost: &StepCost) -> Vec<u32> {
        let mut prompts = prompts(given);
        let room = PrefillRoom {
            tokens: room,
            others: 0,
            cost,
        };
        divide(&mut prompts, room);
        prompts.sort_by_key(|prompt| prompt.origin.arrival);
        prompts.iter().map(|prompt| prompt.part).collect()
    }

    #[test]
    fn a_prompt_that_is_alone_has_all_of_the_room() {
        check(&[7000], 512, &[512]);
        check(&[100], 512, &[100]);
        check(&[100], 1, &[1]);
        check(&[], 512, &[]);
    }

    #[test]
    fn long_ones_are_read_one_after_the_other() {
        check(&[7000, 7000, 7000], 512, &[512, 0, 0]);
        check(&[4200, 7000, 7000], 512, &[512, 0, 0]);
    }

    #[test]
    fn a_short_one_is_read_at_once_and_in_a_step_that_is_not_much_longer_for_others() {
        check(&[7000, 7000, 60], 512, &[60, 0, 60]);
        check(&[7000, 5], 512, &[16, 5]);
        check(&[7000, 60, 62, 64], 512, &[186, 60, 62, 64]);
        // Other prompts never take the half that belongs to the first.
        check(&[7000, 100, 100, 100], 512, &[200, 100, 100, 0]);
    }

    #[test]
    fn where_more_tokens_cost_little_the_long_ones_have_more() {
        let mut cost = StepCost::default();
        for (tokens, ms) in [(1, 10), (101, 20), (512, 60)] {
            cost.record(tokens, Duration::from_millis(ms));
        }
        // 60 tokens take 16 ms, and 222 take 32.
        check_at(&cost, &[7000, 60], 512, &[162, 60]);
        let mut flat = StepCost::default();
        flat.record(1, Duration::from_millis(10));
        flat.record(512, Duration::from_millis(10));
        check_at(&flat, &[7000, 60], 512, &[256 + 196, 60]);
    }

    #[test]
    fn a_middle_one_has_half_of_what_does_not_end_it() {
        check(&[7000, 2000], 512, &[256, 256]);
        check(&[7000, 300], 512, &[256, 256]);
        check(&[6744, 44], 512, &[44, 44]);
    }

    #[test]
    fn many_short_ones_fill_the_batch() {
        check(&[62; 10], 512, &[62, 62, 62, 62, 62, 62, 62, 62, 16, 0]);
        check(&[300, 300], 512, &[300, 212]);
    }

    #[test]
    fn where_a_step_costs_what_its_tokens_cost_short_ones_are_read_one_after_the_other() {
        let mut linear = StepCost::default();
        for (tokens, ms) in [(1, 5), (101, 105), (512, 516)] {
            linear.record(tokens, Duration::from_millis(ms));
        }
        check_at(&linear, &[62; 4], 512, &[62, 0, 0, 0]);
        // The step itself is what takes the time.
        check_at(&linear, &[9; 4], 512, &[9, 9, 9, 0]);
        // The long one has no more than before.
        check_at(&linear, &[7000, 60, 62], 512, &[63, 60, 0]);
    }

    #[test]
    fn whoever_runs_less_is_first_in_line() {
        let given = [(0, 100), (0, 100), (0, 100), (1, 400)];
        let parts = parts(&given, 256, &StepCost::default());
        assert_eq!(parts, [100, 0, 0, 100]);
    }
}
