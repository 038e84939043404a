//! Which way of computing is the fastest right now, for one kind of step.
//!
//! No choice stays the best: on a shared machine the fastest number of threads changes with what the neighbours do. So each
//! other choice is tried for a step or two now and then, and compared with what a step of the same size costs in the usual
//! way. How often depends on what trying it costs, so that all trials together take a small share of the time.

/// A way of computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub threads: u32,
    /// How busily idle threads wait: 0 = sleep, 100 = spin.
    pub poll: u32,
}

/// Finds the best choice from how long steps take.
pub struct Tuner {
    candidates: Vec<Candidate>,
    /// Which one computes unless another is being tried.
    used: usize,
    trial: Option<Trial>,
    usual: Costs,
    /// Seconds of computing so far.
    clock: f64,
    /// Steps since everything changed at once.
    since_surprise: u32,
}

/// A change to tell people about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switch {
    pub from: Choice,
    pub to: Choice,
    /// How much faster the new one is: 1.5 = takes two thirds of the time.
    pub speedup: f64,
}

struct Candidate {
    choice: Choice,
    /// What a step cost in calibration, in steps of the best.
    calibrated: f64,
    /// On the clock: when to try it. Known from the first step on.
    due: f64,
}

struct Trial {
    candidate: usize,
    length: Length,
    steps: u32,
    seconds: f64,
    /// Seconds that its steps took longer than usual.
    excess: f64,
    /// Sum of ln(cost / usual cost).
    log_ratios: f64,
    compared: u32,
}

/// A trial ends after so many steps, or after so long.
#[derive(PartialEq)]
struct Length {
    steps: u32,
    seconds: f64,
}

/// All trials together may cost this share of the time.
const TRIAL_SHARE: f64 = 0.02;
const TRIAL: Length = Length {
    steps: 2,
    seconds: 0.05,
};
/// Before a switch, a choice that did well is tried for longer.
const CONFIRMATION: Length = Length {
    steps: 6,
    seconds: 0.5,
};
/// A trial ends early where a step takes this many times as long as usual.
const HOPELESS: f64 = 2.5;
/// How much faster a choice must be to be switched to.
const WORTHWHILE: f64 = 1.05;
/// Bounds of the time between two trials of a choice, in seconds of computing.
const SHORTEST_WAIT: f64 = 2.0;
const LONGEST_WAIT: f64 = 3600.0;
/// Taken for the calibrated cost of what there was no time to calibrate.
const UNCALIBRATED: f64 = 1.25;
/// Steps between two surprises.
const SURPRISE_PAUSE: u32 = 64;

impl Tuner {
    /// With what calibration measured: seconds for the same step, None where there was no time to measure. At least one choice.
    pub fn new(choices: &[Choice], seconds: &[Option<f64>]) -> Self {
        let cost = |at: usize| seconds.get(at).copied().flatten().unwrap_or(f64::INFINITY);
        let used = (0..choices.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let used = used.unwrap_or(0);
        let ratio = |at: usize| cost(at) / cost(used);
        let candidate = |(at, &choice): (usize, &Choice)| Candidate {
            choice,
            calibrated: if cost(at).is_finite() {
                ratio(at)
            } else {
                UNCALIBRATED
            },
            due: f64::INFINITY,
        };
        Self {
            candidates: choices.iter().enumerate().map(candidate).collect(),
            used,
            trial: None,
            usual: Costs::NONE,
            clock: 0.0,
            since_surprise: 0,
        }
    }

    /// How the next step is to be computed.
    pub fn choice(&self) -> Choice {
        let trial = self.trial.as_ref();
        self.candidates[trial.map_or(self.used, |trial| trial.candidate)].choice
    }

    /// How steps are computed but for trials.
    pub fn settled(&self) -> Choice {
        self.candidates[self.used].choice
    }

    /// Goes back to the usual way.
    pub fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Takes note of a step of so many tokens, computed as [`choice`](Self::choice) said.
    pub fn observe(&mut self, tokens: u32, seconds: f64) -> Option<Switch> {
        self.clock += seconds;
        self.since_surprise = self.since_surprise.saturating_add(1);
        match self.trial.take() {
            Some(trial) => self.go_on(trial, tokens, seconds),
            None => {
                self.watch(tokens, seconds);
                None
            }
        }
    }

    /// A usual step: what does it cost, and is it time to try something else?
    fn watch(&mut self, tokens: u32, seconds: f64) {
        if self.usual.steps == 0 {
            self.expect_trials_to_cost(seconds);
        }
        let drifted = self.usual.add(tokens, seconds);
        if drifted && self.since_surprise >= SURPRISE_PAUSE {
            self.since_surprise = 0;
            self.usual.forget_long_run();
            self.candidates.iter_mut().for_each(|one| one.due = 0.0);
        }
        let others = (0..self.candidates.len()).filter(|&at| at != self.used);
        let due = |&at: &usize| self.candidates[at].due;
        let next = others.min_by(|a, b| due(a).total_cmp(&due(b)));
        self.trial = next
            .filter(|at| due(at) <= self.clock)
            .map(|candidate| Trial::new(candidate, TRIAL));
    }

    /// The first trials, when steps take `seconds`. Calibration was short, and of small steps: those that lost are tried in
    /// earnest as soon as that costs little.
    fn expect_trials_to_cost(&mut self, seconds: f64) {
        let others = (self.candidates.len() - 1) as f64;
        for one in &mut self.candidates {
            one.due = self.clock + wait(seconds * (one.calibrated - 1.0), others);
        }
    }

    /// A step of a trial.
    fn go_on(&mut self, mut trial: Trial, tokens: u32, seconds: f64) -> Option<Switch> {
        trial.steps += 1;
        trial.seconds += seconds;
        let mut hopeless = false;
        if let Some(usual) = self.usual.of(tokens) {
            trial.excess += seconds - usual;
            trial.log_ratios += (seconds / usual).ln();
            trial.compared += 1;
            hopeless = seconds > HOPELESS * usual;
        }
        if !hopeless && !trial.is_over() {
            self.trial = Some(trial);
            return None;
        }
        self.judge(&trial)
    }

    fn judge(&mut self, trial: &Trial) -> Option<Switch> {
        if trial.compared == 0 {
            // Steps of these sizes were not seen lately.
            self.candidates[trial.candidate].due = self.clock + SHORTEST_WAIT;
            return None;
        }
        let speedup = (-trial.log_ratios / f64::from(trial.compared)).exp();
        let good = speedup >= WORTHWHILE;
        if good && trial.length == TRIAL {
            self.trial = Some(Trial::new(trial.candidate, CONFIRMATION));
            return None;
        }
        let others = (self.candidates.len() - 1) as f64;
        if good {
            let from = self.used;
            // The old one will cost per step what the new one saved.
            let excess = -trial.excess / f64::from(trial.compared) * f64::from(TRIAL.steps);
            self.candidates[from].due = self.clock + wait(excess, others);
            self.used = trial.candidate;
            self.usual.scale(1.0 / speedup);
            let choice = |at: usize| self.candidates[at].choice;
            let (from, to) = (choice(from), choice(self.used));
            return Some(Switch { from, to, speedup });
        }
        self.candidates[trial.candidate].due = self.clock + wait(trial.excess, others);
        None
    }
}

impl Trial {
    fn new(candidate: usize, length: Length) -> Self {
        Self {
            candidate,
            length,
            steps: 0,
            seconds: 0.0,
            excess: 0.0,
            log_ratios: 0.0,
            compared: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.steps >= self.length.steps || self.seconds >= self.length.seconds
    }
}

/// Seconds until a choice may be tried again that cost `excess` seconds more than usual, one of several that share the time.
fn wait(excess: f64, others: f64) -> f64 {
    (excess * others / TRIAL_SHARE).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

/// What steps usually cost, in seconds for each token, by size of the step.
struct Costs {
    sizes: [Cost; SIZES],
    steps: u64,
}

#[derive(Clone, Copy)]
struct Cost {
    /// Of the last steps, in a ring.
    last: [f64; LAST],
    /// How many were ever entered.
    entered: usize,
    long_run: f64,
    /// When it was last updated.
    step: u64,
}

/// Sizes up to 8 tokens by themselves, above four for each doubling, up to 2^20.
const SIZES: usize = 8 + 4 * 17;
/// Their median is what a step usually costs: one that was interrupted does not matter, and a new world is noticed soon.
const LAST: usize = 9;
const LONG_RUN: f64 = 0.01;
/// A cost is known as long as it is of one of the last so many steps.
const FRESH_STEPS: u64 = 64;
/// A surprise: the steps of late differ so much from the long run.
const DRIFT: f64 = 1.4;

impl Cost {
    const UNKNOWN: Self = Self {
        last: [0.0; LAST],
        entered: 0,
        long_run: 0.0,
        step: 0,
    };

    fn enter(&mut self, per_token: f64) {
        self.last[self.entered % LAST] = per_token;
        self.entered += 1;
        let usual = self.usual();
        match self.entered {
            1..=LAST => self.long_run = usual,
            _ => self.long_run += LONG_RUN * (usual - self.long_run),
        }
    }

    fn usual(&self) -> f64 {
        let mut last = self.last;
        let known = &mut last[..self.entered.min(LAST)];
        known.sort_unstable_by(f64::total_cmp);
        known.get(known.len() / 2).copied().unwrap_or_default()
    }
}

impl Costs {
    const NONE: Self = Self {
        sizes: [Cost::UNKNOWN; SIZES],
        steps: 0,
    };

    /// Says whether steps of this size have become much slower or faster.
    fn add(&mut self, tokens: u32, seconds: f64) -> bool {
        self.steps += 1;
        let steps = self.steps;
        let cost = &mut self.sizes[size(tokens)];
        if cost.step + FRESH_STEPS <= steps {
            *cost = Cost::UNKNOWN;
        }
        cost.step = steps;
        cost.enter(seconds / f64::from(tokens.max(1)));
        (cost.usual() / cost.long_run).ln().abs() > DRIFT.ln()
    }

    /// Usual seconds of a step of this size, if they are known.
    fn of(&self, tokens: u32) -> Option<f64> {
        let cost = &self.sizes[size(tokens)];
        let known = cost.entered > 0 && cost.step + FRESH_STEPS > self.steps;
        known.then(|| cost.usual() * f64::from(tokens.max(1)))
    }

    /// From now on every step costs so many times as much.
    fn scale(&mut self, factor: f64) {
        for cost in &mut self.sizes {
            cost.last.iter_mut().for_each(|value| *value *= factor);
            cost.long_run *= factor;
        }
    }

    fn forget_long_run(&mut self) {
        for cost in &mut self.sizes {
            cost.long_run = cost.usual();
        }
    }
}

/// Which of the sizes a step has.
fn size(tokens: u32) -> usize {
    if tokens < 8 {
        return tokens as usize;
    }
    let doublings = tokens.ilog2();
    let quarter = (tokens >> (doublings - 2)) & 3;
    (8 + 4 * (doublings as usize - 3) + quarter as usize).min(SIZES - 1)
}

#[cfg(test)]
mod tests;
