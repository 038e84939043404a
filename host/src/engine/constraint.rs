//! What a grammar allows a sequence, as the model thread sees it: matched on other threads, asked for here.
//!
//! A step needs two things of a grammar. Before it: which tokens must follow what was chosen. After its forward: which tokens
//! may come next. Both are asked for at once, so that other threads are woken once for each step: the first is waited for
//! shortly, the second is found out while the model computes. A sequence whose grammar was slow once sits out until both are
//! there, so that it delays nobody else again.

use std::{
    hint,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use crate::grammar::{CompiledGrammar, Forced, Found, GrammarError, Progress, Task};

/// How long a step waits for what must follow.
const PATIENCE: Duration = Duration::from_millis(2);

/// How much of that it waits without sleep: being woken would take longer than most answers do.
const AWAKE: Duration = Duration::from_micros(100);

/// From when on a grammar is slow.
const SLOW: Duration = Duration::from_millis(10);

/// How often a running task is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A sequence's place in its grammar.
pub struct Constraint {
    grammar: Arc<CompiledGrammar>,
    /// None while it runs on another thread.
    task: Option<Box<Task>>,
    progress: Arc<Progress>,
    found: (Sender<Found>, Receiver<Found>),
    /// What must follow the tokens that were chosen last. None until it is known.
    forced: Option<Forced>,
    /// How many of these were taken.
    taken: usize,
    failure: Option<GrammarError>,
    is_slow: bool,
    /// Whether the last step had a draft, or would have had one if its masks could have been found.
    drafts: bool,
    /// Whether the task goes on with masks when it is known what must follow.
    finds_masks: bool,
}

impl Constraint {
    /// At the beginning of the grammar.
    pub fn new(grammar: Arc<CompiledGrammar>) -> Self {
        let task = Box::new(Task::new(grammar.clone()));
        let progress = task.progress.clone();
        let mut constraint = Self {
            grammar,
            task: Some(task),
            progress,
            found: channel(),
            forced: None,
            taken: 0,
            failure: None,
            is_slow: false,
            drafts: false,
            finds_masks: false,
        };
        constraint.submit(false, &[]);
        constraint
    }

    /// Takes note of a token that was chosen. What must follow it is known after [`advance`](Self::advance).
    pub fn choose(&mut self, token: u32) {
        // Tokens are chosen only after their mask was waited for.
        if let Some(task) = &mut self.task {
            task.chosen.push(token);
        }
    }

    /// Has the grammar take what was chosen, and find the next mask. Masks of drafts have to wait until these are made.
    pub fn advance(&mut self) {
        if self
            .task
            .as_ref()
            .is_some_and(|task| !task.chosen.is_empty())
        {
            self.taken = 0;
            self.forced = None;
            self.submit(self.is_slow || !self.drafts, &[]);
        }
    }

    /// Whether the next step can have this sequence. Waits a little for that.
    pub fn is_ready(&mut self) -> Result<bool, GrammarError> {
        let begun = Instant::now();
        while !self.is_known() {
            let patience = match self.is_slow {
                true => Duration::ZERO,
                false => PATIENCE.saturating_sub(begun.elapsed()),
            };
            if !self.receive(patience)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits longer, because nobody else is delayed.
    pub fn wait(&mut self) {
        if !self.is_known() {
            // What goes wrong is told by `is_ready`, again.
            let _ = self.receive(POLL);
        }
    }

    /// The tokens that must follow and were not taken yet.
    pub fn forced(&self) -> &[u32] {
        let forced = self.forced.as_ref();
        forced.map_or(&[], |forced| &forced.tokens[self.taken..])
    }

    /// Takes the next of them.
    pub fn next_forced(&mut self) -> Option<u32> {
        let &token = self.forced().first()?;
        self.taken += 1;
        self.grammar.metrics().forced_tokens.inc();
        Some(token)
    }

    /// Whether nothing may follow but what [`forced`](Self::forced) says.
    pub fn is_finished(&self) -> bool {
        self.forced.as_ref().is_some_and(|forced| forced.is_last)
    }

    /// Whether the step can have this draft: whether its masks can be found. Waits a little for those that were begun without it.
    pub fn can_draft(&mut self, draft: &[u32]) -> bool {
        self.drafts = !draft.is_empty();
        if self.drafts && self.task.is_none() && !self.is_slow {
            // What goes wrong is told when the masks are waited for.
            let _ = self.receive(AWAKE);
        }
        self.task.is_some() && !self.is_slow
    }

    /// Begins to find out what may come next, and after each token of the draft, unless that has begun.
    pub fn begin_masks(&mut self, draft: &[u32]) {
        let done = |task: &Task| !task.masks.is_empty() && task.drafts == draft;
        if !self.is_finished() && self.task.as_ref().is_some_and(|task| !done(task)) {
            self.submit(true, draft);
        }
    }

    /// Waits for the masks.
    pub fn await_masks(&mut self) -> Result<(), GrammarError> {
        while self.task.is_none() {
            self.receive(POLL)?;
        }
        // If there is a mask, a token is chosen soon, which the grammar has to take then.
        if self.mask(0).is_some() && !self.is_slow {
            self.grammar.workers().rouse();
        }
        Ok(())
    }

    /// What may come next, after so many tokens of the draft: `[ceil(logits_width / 32)]`. None where the grammar ends before,
    /// or does not allow the draft.
    pub fn mask(&self, drafted: usize) -> Option<&[u32]> {
        let masks = self.task.as_ref().map(|task| task.masks.as_slice());
        let mut rows = masks?.chunks_exact(self.grammar.mask_words());
        rows.nth(drafted)
    }

    fn is_known(&self) -> bool {
        match self.finds_masks && !self.is_slow {
            true => self.forced.is_some(),
            false => self.task.is_some(),
        }
    }

    fn submit(&mut self, wants_masks: bool, draft: &[u32]) {
        if let Some(mut task) = self.task.take() {
            self.finds_masks = wants_masks;
            task.wants_masks = wants_masks;
            task.drafts.clear();
            task.drafts.extend_from_slice(draft);
            task.took = Duration::ZERO;
            let found = self.found.0.clone();
            self.grammar.workers().submit(task, found, self.is_slow);
        }
    }

    /// Takes what is found within this time, if anything is.
    fn receive(&mut self, patience: Duration) -> Result<bool, GrammarError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        match self.next_found(patience) {
            Some(Found::Forced(forced)) => {
                self.forced = Some(forced);
                Ok(true)
            }
            Some(Found::Done(task)) => {
                if let Err(error) = &task.result {
                    return Err(self.failure.insert(error.clone()).clone());
                }
                self.is_slow |= task.took > SLOW;
                self.task = Some(task);
                Ok(true)
            }
            None => {
                let limit = self.grammar.mask_timeout();
                match self.progress.running_for().is_some_and(|time| time > limit) {
                    true => Err(GrammarError::Slow(limit)),
                    false => Ok(false),
                }
            }
        }
    }

    fn next_found(&self, patience: Duration) -> Option<Found> {
        let (begun, results) = (Instant::now(), &self.found.1);
        while begun.elapsed() < patience.min(AWAKE) {
            if let Ok(found) = results.try_recv() {
                return Some(found);
            }
            hint::spin_loop();
        }
        // It cannot be disconnected: there is a sender in `self`.
        results.recv_timeout(patience.saturating_sub(AWAKE)).ok()
    }
}

impl Drop for Constraint {
    fn drop(&mut self) {
        self.progress.cancel();
        if let Some(task) = self.task.take() {
            self.grammar.workers().retire(task);
        }
    }
}
