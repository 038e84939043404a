//! A sequence's grammar as the model thread sees it. Worker threads match the tokens; this side asks them.
//!
//! A step needs two things from a grammar: before the step, the tokens that must follow the chosen ones (fast-forward tokens),
//! and after the forward, the mask of tokens that may come next. Both are requested at once, so that workers are woken once
//! per step. The step waits briefly for the fast-forward tokens. The masks are found while the model computes. A sequence whose
//! grammar was slow once skips steps until both are there, so that it never delays others again.
//!
//! | state | the next step | moves |
//! |---|---|---|
//! | [`Matching`](TaskState::Matching) | waits | fast-forward tokens are known: `Masking`, or `Returning` if no masks were requested |
//! | [`Returning`](TaskState::Returning) | waits | the worker gives the task back: `Here` |
//! | [`Masking`](TaskState::Masking) | may be made, unless the grammar is slow | the masks are found: `Here` |
//! | [`Here`](TaskState::Here) | may be made | [`begin_masks`](Constraint::begin_masks): `Masking`; [`advance`](Constraint::advance): `Matching` |
//! | [`Failed`](TaskState::Failed) | fails | none |
//!
//! An error of the worker leads from every state to `Failed`. Two flags change what the table says: a slow grammar makes the
//! sequence wait in `Masking` too, and gets its masks requested with `Matching`, as does a sequence without drafts.
//!
//! Each step enters twice, with these calls in this order:
//!
//! 1. Before the forward: [`prepare`](Constraint::prepare) waits and says what is [next](Next),
//!    [`take_fast_forward`](Constraint::take_fast_forward) gives what must follow, [`can_draft`](Constraint::can_draft) allows a draft,
//!    [`begin_masks`](Constraint::begin_masks) requests the masks.
//! 2. After the forward: [`await_masks`](Constraint::await_masks) waits, [`mask`](Constraint::mask) limits each pick, and
//!    [`advance`](Constraint::advance) has the worker take the chosen tokens.
//!
//! The entries are several calls, because all sequences of a step share each of its stages: they are planned together, computed
//! together, and picked together.

use std::{
    hint, mem,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use crate::grammar::{CompiledGrammar, FastForward, Found, GrammarError, RunHandle, Task};

/// How long a step waits for fast-forward tokens.
const PATIENCE: Duration = Duration::from_millis(2);

/// How much of that time the model thread spins: waking it would take longer than most answers do.
const AWAKE: Duration = Duration::from_micros(100);

/// Time of a task from which on the grammar counts as slow.
const SLOW: Duration = Duration::from_millis(10);

/// How often a running task is checked.
const POLL: Duration = Duration::from_millis(5);

/// A sequence's position in its grammar.
pub struct Constraint {
    grammar: Arc<CompiledGrammar>,
    state: TaskState,
    /// Tells how long the task has been running, and stops it.
    handle: Arc<RunHandle>,
    found: (Sender<Found>, Receiver<Found>),
    /// Tokens that must follow the last chosen ones. Empty until they are known.
    fast_forward: FastForward,
    is_slow: bool,
    /// Whether the last step had a draft, or would have had one if its masks could have been found.
    drafts: bool,
}

/// What a sequence may do next, as far as its grammar is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It skips steps: what may follow is not known yet.
    Held,
    /// Certain tokens must follow.
    FastForward,
    /// The model picks a token.
    Pick,
    /// Nothing may follow.
    Finished,
}

/// Where the task is, and what it does there.
enum TaskState {
    /// A worker takes the chosen tokens. Then it finds masks, if these were requested.
    Matching { wants_masks: bool },
    /// A worker is done without masks. Its task is on the way back.
    Returning,
    /// A worker finds masks.
    Masking,
    /// The task is here, with or without masks.
    Here(Box<Task>),
    /// The task is lost.
    Failed(GrammarError),
}

impl Constraint {
    /// Starts at the beginning of the grammar.
    pub fn new(grammar: Arc<CompiledGrammar>) -> Self {
        let task = Box::new(grammar.task());
        let handle = task.handle.clone();
        let mut constraint = Self {
            grammar,
            state: TaskState::Here(task),
            handle,
            found: channel(),
            fast_forward: FastForward::default(),
            is_slow: false,
            drafts: false,
        };
        constraint.submit(TaskState::Matching { wants_masks: false }, &[]);
        constraint
    }

    /// Waits briefly for the fast-forward tokens. Until they are known, the sequence is [held](Next::Held).
    pub fn prepare(&mut self) -> Result<Next, GrammarError> {
        let begun = Instant::now();
        while self.is_held() {
            let patience = match self.is_slow {
                true => Duration::ZERO,
                false => PATIENCE.saturating_sub(begun.elapsed()),
            };
            if !self.receive(patience)? {
                break;
            }
        }
        Ok(self.next())
    }

    /// What the sequence may do next.
    pub fn next(&self) -> Next {
        if self.is_held() {
            Next::Held
        } else if !self.fast_forward.tokens.as_slice().is_empty() {
            Next::FastForward
        } else if self.fast_forward.is_last {
            Next::Finished
        } else {
            Next::Pick
        }
    }

    fn is_held(&self) -> bool {
        match self.state {
            TaskState::Here(_) => false,
            TaskState::Masking => self.is_slow,
            TaskState::Matching { .. } | TaskState::Returning | TaskState::Failed(_) => true,
        }
    }

    /// Waits longer for the worker if the sequence is held, and returns whether it was. To be called only if no step can be made, so
    /// that no other sequence is delayed.
    pub fn wait(&mut self) -> bool {
        let was_held = self.is_held();
        if was_held {
            // `prepare` reports an error again.
            let _ = self.receive(POLL);
        }
        was_held
    }

    /// Takes the next fast-forward token.
    pub fn take_fast_forward(&mut self) -> Option<u32> {
        let token = self.fast_forward.tokens.next()?;
        self.grammar.metrics().fast_forward_tokens.inc();
        Some(token)
    }

    /// Whether the masks of this draft can be found in the step. Waits briefly for masks that were begun without it.
    pub fn can_draft(&mut self, draft: &[u32]) -> bool {
        self.drafts = !draft.is_empty();
        if self.drafts && self.task().is_none() && !self.is_slow {
            // `prepare` reports an error again, or `await_masks` if the worker is only late.
            let _ = self.receive(AWAKE);
        }
        self.task().is_some() && !self.is_slow
    }

    /// Starts finding the masks of the next token and of the one after each draft token, unless they are there already.
    pub fn begin_masks(&mut self, draft: &[u32]) {
        let done = |task: &Task| !task.masks.is_empty() && task.drafts == draft;
        if !self.fast_forward.is_last && self.task().is_some_and(|task| !done(task)) {
            self.submit(TaskState::Masking, draft);
        }
    }

    /// Waits for the masks.
    pub fn await_masks(&mut self) -> Result<(), GrammarError> {
        while self.task().is_none() {
            self.receive(POLL)?;
        }
        // If there is a mask, a token is chosen soon and a worker has to take it: wake one now.
        if self.mask(0).is_some() && !self.is_slow {
            self.grammar.workers().rouse();
        }
        Ok(())
    }

    /// Mask of the tokens that may come after `drafted` tokens of the draft: `[ceil(logits_width / 32)]`. None if the grammar
    /// ends before, or does not allow the draft.
    pub fn mask(&self, drafted: usize) -> Option<&[u32]> {
        let mut rows = self.task()?.masks.chunks_exact(self.grammar.mask_words());
        rows.nth(drafted)
    }

    /// Whether the grammar allows this token next.
    pub fn allows(&self, token: u32) -> bool {
        let mask = self.mask(0).unwrap_or_default();
        let word = mask.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Has a worker take the chosen tokens and find the next mask. If the sequence drafts, masks are found only once its next
    /// draft is made, unless the grammar is slow.
    pub fn advance(&mut self, chosen: &[u32]) {
        // The task is here: tokens are chosen only after their mask was awaited.
        if let TaskState::Here(task) = &mut self.state
            && !chosen.is_empty()
        {
            task.chosen.extend_from_slice(chosen);
            self.fast_forward = FastForward::default();
            let wants_masks = self.is_slow || !self.drafts;
            self.submit(TaskState::Matching { wants_masks }, &[]);
        }
    }

    fn task(&self) -> Option<&Task> {
        match &self.state {
            TaskState::Here(task) => Some(task),
            _ => None,
        }
    }

    /// Gives the task to a worker. `next` says what the worker does.
    fn submit(&mut self, next: TaskState, draft: &[u32]) {
        let wants_masks = !matches!(next, TaskState::Matching { wants_masks: false });
        if let TaskState::Here(mut task) = mem::replace(&mut self.state, next) {
            task.wants_masks = wants_masks;
            task.drafts.clear();
            task.drafts.extend_from_slice(draft);
            task.took = Duration::ZERO;
            let found = self.found.0.clone();
            self.grammar.workers().submit(task, found, self.is_slow);
        }
    }

    /// Waits up to `patience` for one result. False if none came.
    fn receive(&mut self, patience: Duration) -> Result<bool, GrammarError> {
        if let TaskState::Failed(error) = &self.state {
            return Err(error.clone());
        }
        match self.next_found(patience) {
            Some(Found::FastForward(fast_forward)) => {
                self.state = match self.state {
                    TaskState::Matching { wants_masks: true } if !fast_forward.is_last => {
                        TaskState::Masking
                    }
                    _ => TaskState::Returning,
                };
                self.fast_forward = fast_forward;
                Ok(true)
            }
            Some(Found::Done(task)) => {
                self.is_slow |= task.took > SLOW;
                let result = task.result.clone();
                self.state = match &result {
                    Ok(()) => TaskState::Here(task),
                    Err(error) => TaskState::Failed(error.clone()),
                };
                result.map(|()| true)
            }
            None => {
                let limit = self.grammar.mask_timeout();
                match self.handle.running_for().is_some_and(|time| time > limit) {
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
        // The channel is never disconnected: `self` has a sender.
        results.recv_timeout(patience.saturating_sub(AWAKE)).ok()
    }
}

impl Drop for Constraint {
    fn drop(&mut self) {
        self.handle.cancel();
        if let TaskState::Here(task) = mem::replace(&mut self.state, TaskState::Returning) {
            self.grammar.workers().retire(task);
        }
    }
}
