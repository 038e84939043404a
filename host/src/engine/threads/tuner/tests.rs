//! Tests of the tuner in simulated hours.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::*;

/// One thread, two that spin, two that sleep.
const CHOICES: [ThreadChoice; 3] = [choice(1, 0), choice(2, 50), choice(2, 0)];
/// Tokens per second of the choices, measured on a machine with two shared cores: decode and prefill, in a quiet hour and
/// in a busy one.
const QUIET: [[f64; 3]; 2] = [[94.0, 150.0, 40.0], [179.0, 350.0, 303.0]];
const BUSY: [[f64; 3]; 2] = [[77.0, 16.0, 64.0], [160.0, 85.0, 177.0]];

const fn choice(threads: u32, poll: u32) -> ThreadChoice {
    ThreadChoice { threads, poll }
}

/// Simulates steps of one kind while hours change.
struct World {
    tokens: u32,
    /// Tokens per second of each choice, and the seconds that this lasts.
    hours: Vec<([f64; 3], f64)>,
    steps: u64,
}

impl World {
    fn seconds(&self) -> f64 {
        self.hours.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Tokens per second of a choice at this time.
    fn rate(&self, choice: usize, time: f64) -> f64 {
        let mut end = 0.0;
        let hour = self.hours.iter().find(|(_, seconds)| {
            end += seconds;
            time < end
        });
        hour.unwrap_or(&self.hours[self.hours.len() - 1]).0[choice]
    }

    /// Seconds of a step: up to a tenth more or less, and now and then interrupted by the neighbours.
    fn step(&mut self, choice: usize, time: f64) -> f64 {
        self.steps += 1;
        let bits = BuildHasherDefault::<DefaultHasher>::new().hash_one(self.steps);
        let noise = 0.9 + 0.2 * (bits >> 40) as f64 / f64::from(1 << 24);
        let interrupted = if bits.is_multiple_of(200) { 5.0 } else { 1.0 };
        f64::from(self.tokens) / self.rate(choice, time) * noise * interrupted
    }

    /// Tokens per second that the choices of `choose` reach.
    fn run(&mut self, mut choose: impl FnMut(Option<f64>) -> usize) -> f64 {
        let (mut time, mut tokens, mut last) = (0.0, 0.0, None);
        self.steps = 0;
        while time < self.seconds() {
            let took = self.step(choose(last), time);
            last = Some(took);
            time += took;
            tokens += f64::from(self.tokens);
        }
        tokens / time
    }

    fn best_fixed(&mut self) -> f64 {
        (0..3)
            .map(|choice| self.run(|_| choice))
            .fold(0.0, f64::max)
    }

    /// Tokens per second of a tuner that was calibrated at these rates.
    fn tuned(&mut self, calibrated: [f64; 3]) -> f64 {
        let tokens = self.tokens;
        let seconds = calibrated.map(|rate| Some(f64::from(tokens) / rate));
        let mut tuner = Tuner::new(&CHOICES, &seconds);
        self.run(|last| {
            if let Some(seconds) = last {
                tuner.observe(tokens, seconds);
            }
            CHOICES
                .iter()
                .position(|&one| one == tuner.choice())
                .unwrap()
        })
    }
}

/// Checks decode and prefill in these hours, after calibration in a quiet and in a busy hour.
#[track_caller]
fn check(hours: &[([[f64; 3]; 2], f64)], share: f64) {
    for (kind, tokens) in [(0, 1), (1, 64)] {
        for calibrated in [QUIET[kind], BUSY[kind]] {
            let hours = hours
                .iter()
                .map(|(rates, seconds)| (rates[kind], *seconds))
                .collect();
            let mut world = World {
                tokens,
                hours,
                steps: 0,
            };
            let (best, tuned) = (world.best_fixed(), world.tuned(calibrated));
            assert!(
                tuned >= share * best,
                "{tuned:.1} of {best:.1} tokens/s, kind {kind}"
            );
        }
    }
}

#[test]
fn quiet_hours_stay_near_the_best_fixed_choice() {
    check(&[(QUIET, 300.0)], 0.95);
}

#[test]
fn busy_hours_stay_near_the_best_fixed_choice() {
    check(&[(BUSY, 300.0)], 0.95);
}

#[test]
fn hours_that_change_stay_near_the_best_fixed_choice() {
    let hours = [QUIET, BUSY].into_iter().cycle().take(10);
    let hours: Vec<_> = hours.map(|rates| (rates, 60.0)).collect();
    check(&hours, 0.95);
}

/// A large model, for an hour: decode steps take a third of a second, prefill steps half a minute. Errors of calibration
/// are found later than with a small model.
#[test]
fn slow_models_are_not_slowed_by_trials() {
    for (rates, tokens) in [([3.0, 5.0, 4.8], 1), ([10.0, 19.0, 18.0], 512)] {
        for (calibrated, share) in [(rates, 0.95), ([10.0, 9.0, 8.0], 0.9)] {
            let mut world = World {
                tokens,
                hours: vec![(rates, 3600.0)],
                steps: 0,
            };
            let (best, tuned) = (world.best_fixed(), world.tuned(calibrated));
            assert!(tuned >= share * best, "{tuned:.1} of {best:.1} tokens/s");
        }
    }
}

/// The tuner must gain what each fixed choice loses in some of the hours.
#[test]
fn hours_that_change_are_won_against_every_fixed_choice() {
    let hours = [QUIET, BUSY].into_iter().cycle().take(10);
    let hours = hours.map(|rates| (rates[0], 60.0)).collect();
    let mut world = World {
        tokens: 1,
        hours,
        steps: 0,
    };
    let (best, tuned) = (world.best_fixed(), world.tuned(QUIET[0]));
    assert!(tuned > 1.2 * best, "{tuned:.1} of {best:.1} tokens/s");
}

#[test]
fn what_was_not_calibrated_is_tried() {
    let mut world = World {
        tokens: 1,
        hours: vec![(QUIET[0], 60.0)],
        steps: 0,
    };
    let mut tuner = Tuner::new(&CHOICES, &[Some(0.0106), None, None]);
    assert_eq!(tuner.choice(), CHOICES[0]);
    let switched = (0..600).find_map(|_| {
        let choice = CHOICES
            .iter()
            .position(|&one| one == tuner.choice())
            .unwrap();
        let took = world.step(choice, 0.0);
        tuner.observe(1, took)
    });
    let switch = switched.unwrap();
    assert_eq!((switch.from, switch.to), (CHOICES[0], CHOICES[1]));
    assert!((1.3..1.9).contains(&switch.speedup), "{switch:?}");
}

#[test]
fn a_hopeless_trial_takes_one_step() {
    let mut tuner = Tuner::new(&CHOICES[..2], &[Some(0.01), None]);
    let until_trial = |tuner: &mut Tuner| {
        let steps = (0..1000).take_while(|_| {
            tuner.observe(4, 0.01);
            tuner.choice() == CHOICES[0]
        });
        steps.count() as f64 * 0.01
    };
    let shortest = (SHORTEST_WAIT - 0.02)..=SHORTEST_WAIT + 0.02;
    assert!(shortest.contains(&until_trial(&mut tuner)));
    tuner.observe(4, 0.09);
    assert_eq!(tuner.choice(), CHOICES[0]);
    // 0.08 s of excess are 2% of 4 s.
    assert!((3.98..4.02).contains(&until_trial(&mut tuner)));
}

#[test]
fn one_choice_is_never_left() {
    let mut tuner = Tuner::new(&CHOICES[..1], &[None]);
    for seconds in [0.01, 0.02, 1.0, 0.001] {
        assert_eq!(tuner.observe(1, seconds), None);
        assert_eq!(tuner.choice(), CHOICES[0]);
    }
}

#[test]
fn sizes_are_close_to_what_they_stand_for() {
    for tokens in 1..5000 {
        let next = (tokens + 1..)
            .find(|&more| size(more) != size(tokens))
            .unwrap();
        assert!(next - tokens <= (tokens / 4).max(1), "{tokens} and {next}");
    }
    assert_eq!(size(u32::MAX), SIZES - 1);
}
