//! Finds the fastest choice of threads for one kind of step, and follows its changes.
//!
//! No choice stays the best: on a shared machine the fastest number of threads changes with the neighbours' load. So each
//! other choice is tried now and then for a step or two, and compared with the usual cost of steps of the same size. How
//! often depends on what a trial costs, so that all trials together take a small share of the time.

/// A number of threads and their way of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadChoice {
    pub threads: u32,
    /// How busily idle threads wait: 0 = sleep, 100 = spin.
    pub poll: u32,
}

/// Finds the best choice from the times of steps.
pub struct Tuner {
    candidates: Vec<Candidate>,
    /// The settled choice. It computes unless another one is on trial.
    used: usize,
    trial: Option<Trial>,
    usual: Costs,
    /// Seconds of computing so far.
    clock: f64,
    /// Steps since the last surprise: a sudden change of the usual costs.
    since_surprise: u32,
}

/// A change of the settled choice, to be logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switch {
    pub from: ThreadChoice,
    pub to: ThreadChoice,
    /// How much faster the new choice is. 1.5: it takes two thirds of the time.
    pub speedup: f64,
}

struct Candidate {
    choice: ThreadChoice,
    /// Cost of a step in calibration, relative to the best choice.
    calibrated: f64,
    /// When to try this choice next, in seconds of `clock`. Set by the first step.
    due: f64,
}

struct Trial {
    candidate: usize,
    length: Length,
    steps: u32,
    seconds: f64,
    /// Seconds by which its steps took longer than usual.
    excess: f64,
    /// Sum of ln(cost / usual cost).
    log_ratios: f64,
    compared: u32,
}

/// Limits of a trial: it ends after this many steps or seconds, whichever comes first.
#[derive(PartialEq)]
struct Length {
    steps: u32,
    seconds: f64,
}

/// Share of the time that all trials together may cost.
const TRIAL_SHARE: f64 = 0.02;
const TRIAL: Length = Length {
    steps: 2,
    seconds: 0.05,
};
/// A choice that did well is tried for longer before a switch.
const CONFIRMATION: Length = Length {
    steps: 6,
    seconds: 0.5,
};
/// A trial ends early if a step takes this many times as long as usual.
const HOPELESS: f64 = 2.5;
/// How much faster a choice must be to be switched to.
const WORTHWHILE: f64 = 1.05;
/// Limits of the time between two trials of a choice, in seconds of computing.
const SHORTEST_WAIT: f64 = 2.0;
const LONGEST_WAIT: f64 = 3600.0;
/// Assumed calibrated cost of a choice that there was no time to calibrate.
const UNCALIBRATED: f64 = 1.25;
/// Fewest steps between two surprises.
const SURPRISE_PAUSE: u32 = 64;

impl Tuner {
    /// Starts with the choice that was the fastest in calibration. `seconds` has the time of the same step with each choice, None
    /// if there was no time to measure it. There must be at least one choice.
    pub fn new(choices: &[ThreadChoice], seconds: &[Option<f64>]) -> Self {
        let cost = |at: usize| seconds.get(at).copied().flatten().unwrap_or(f64::INFINITY);
        let used = (0..choices.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let used = used.unwrap_or(0);
        let ratio = |at: usize| cost(at) / cost(used);
        let candidate = |(at, &choice): (usize, &ThreadChoice)| Candidate {
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

    /// The choice for the next step.
    pub fn choice(&self) -> ThreadChoice {
        let trial = self.trial.as_ref();
        self.candidates[trial.map_or(self.used, |trial| trial.candidate)].choice
    }

    /// The choice that is used apart from trials.
    pub fn settled(&self) -> ThreadChoice {
        self.candidates[self.used].choice
    }

    /// Ends a trial, so that the settled choice is used again.
    pub fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Records a step that was computed with [`choice`](Self::choice). Returns a switch if there was one.
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

    /// Records a step of the settled choice, and starts a trial if one is due.
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

    /// Schedules the first trials, given that a step takes `seconds`. Calibration was short and used small steps, so slower
    /// choices are tried in real steps as soon as that costs little.
    fn expect_trials_to_cost(&mut self, seconds: f64) {
        let others = (self.candidates.len() - 1) as f64;
        for one in &mut self.candidates {
            one.due = self.clock + wait(seconds * (one.calibrated - 1.0), others);
        }
    }

    /// Records a step of a trial.
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
            // No recent step had these sizes.
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
            // From now on, a step of the old choice costs as much more as the new choice saved.
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

/// Seconds until a choice is tried again after a trial that took `excess` seconds longer than usual. `others` choices share the
/// time of trials.
fn wait(excess: f64, others: f64) -> f64 {
    (excess * others / TRIAL_SHARE).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

/// Usual costs of steps, in seconds per token, by size of the step. Each is the median of recent steps of one size, which an
/// interrupted step does not change. Old costs count as unknown. `StepCost` differs: it predicts steps of any size from averages.
struct Costs {
    sizes: [Cost; SIZES],
    steps: u64,
}

#[derive(Clone, Copy)]
struct Cost {
    /// Costs of the last steps, in a ring.
    last: [f64; LAST],
    /// How many costs were ever entered.
    entered: usize,
    long_run: f64,
    /// The step at which this cost was last updated.
    step: u64,
}

/// One size for each number of tokens below 8, then four for each doubling, up to 2^20.
const SIZES: usize = 8 + 4 * 17;
/// How many costs the median is taken of. The median ignores a step that was interrupted, and soon follows a real change.
const LAST: usize = 9;
/// Weight of the newest cost in the long run.
const LONG_RUN: f64 = 0.01;
/// A cost stays known for this many steps after the last step of its size.
const FRESH_STEPS: u64 = 64;
/// Ratio between recent costs and the long run from which on there is a surprise.
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

    /// Records a step. True if steps of this size have become much slower or faster.
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

    /// Usual seconds of a step with `tokens` tokens, if known.
    fn of(&self, tokens: u32) -> Option<f64> {
        let cost = &self.sizes[size(tokens)];
        let known = cost.entered > 0 && cost.step + FRESH_STEPS > self.steps;
        known.then(|| cost.usual() * f64::from(tokens.max(1)))
    }

    /// Multiplies all costs by `factor`.
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

/// Index of the size that a step has.
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
