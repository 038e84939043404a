//! What a grammar allows a sequence, as the model thread sees it: matched on other threads, asked for here.
//!
//! A step needs two things of a grammar. Before it: which tokens must follow what was chosen. After its forward: which tokens
//! may come next. The first is waited for shortly, the second is found out while the model computes. A sequence whose
//! grammar was slow once sits out until both are there, so that it delays nobody else again.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use crate::grammar::{CompiledGrammar, GrammarError, Progress, Task};

/// How long a step waits for what must follow.
const PATIENCE: Duration = Duration::from_millis(2);

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
    done: (Sender<Box<Task>>, Receiver<Box<Task>>),
    /// How many of the tokens that must follow were taken.
    taken: usize,
    failure: Option<GrammarError>,
    is_slow: bool,
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
            done: channel(),
            taken: 0,
            failure: None,
            is_slow: false,
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

    /// Has the grammar take what was chosen.
    pub fn advance(&mut self) {
        if self
            .task
            .as_ref()
            .is_some_and(|task| !task.chosen.is_empty())
        {
            self.taken = 0;
            self.submit(self.is_slow, &[]);
        }
    }

    /// Whether the next step can have this sequence. Waits a little for that.
    pub fn is_ready(&mut self) -> Result<bool, GrammarError> {
        match self.task {
            Some(_) => Ok(true),
            None => self.receive(if self.is_slow {
                Duration::ZERO
            } else {
                PATIENCE
            }),
        }
    }

    /// Waits longer, because nobody else is delayed.
    pub fn wait(&mut self) {
        if self.task.is_none() {
            // What goes wrong is told by `is_ready`, again.
            let _ = self.receive(POLL);
        }
    }

    /// The tokens that must follow and were not taken yet.
    pub fn forced(&self) -> &[u32] {
        let forced = self.task.as_ref().map(|task| &task.forced[self.taken..]);
        forced.unwrap_or_default()
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
        self.task.as_ref().is_some_and(|task| task.is_finished)
    }

    /// Whether masks for drafts may be computed.
    pub fn can_draft(&self) -> bool {
        !self.is_slow
    }

    /// Begins to find out what may come next, and after each token of the draft.
    pub fn begin_masks(&mut self, draft: &[u32]) {
        let done = |task: &Task| !task.masks.is_empty() && task.drafts == draft;
        if self.task.as_ref().is_some_and(|task| !done(task)) {
            self.submit(true, draft);
        }
    }

    /// Waits for the masks.
    pub fn await_masks(&mut self) -> Result<(), GrammarError> {
        while self.task.is_none() {
            self.receive(POLL)?;
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

    fn submit(&mut self, wants_masks: bool, draft: &[u32]) {
        if let Some(mut task) = self.task.take() {
            task.wants_masks = wants_masks;
            task.drafts.clear();
            task.drafts.extend_from_slice(draft);
            let done = self.done.0.clone();
            self.grammar.workers().submit(task, done, self.is_slow);
        }
    }

    /// Takes the task back if it is done within this time.
    fn receive(&mut self, patience: Duration) -> Result<bool, GrammarError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        match self.done.1.recv_timeout(patience) {
            Ok(task) => {
                if let Err(error) = &task.result {
                    return Err(self.failure.insert(error.clone()).clone());
                }
                self.is_slow |= task.took > SLOW;
                self.task = Some(task);
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => {
                let limit = self.grammar.mask_timeout();
                match self.progress.running_for().is_some_and(|time| time > limit) {
                    true => Err(GrammarError::Slow(limit)),
                    false => Ok(false),
                }
            }
            // Impossible: there is a sender in `self`.
            Err(RecvTimeoutError::Disconnected) => Ok(false),
        }
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
