//! Where one sequence is in its grammar.

use llguidance::CancellationHandle;

use super::GrammarError;

/// Where one sequence is in its grammar. Everything that takes tokens may take milliseconds, within the limits of the
/// configuration; after an error it is of no use any more.
pub struct Matcher {
    inner: llguidance::Matcher,
    mask_words: usize,
    can_roll_back: bool,
}

impl Matcher {
    pub(super) fn new(inner: llguidance::Matcher, mask_words: usize, can_roll_back: bool) -> Self {
        Self {
            inner,
            mask_words,
            can_roll_back,
        }
    }

    /// Takes the next token, which the mask allowed.
    pub fn consume(&mut self, token: u32) -> Result<(), GrammarError> {
        let consumed = self.inner.consume_tokens(&[token]);
        consumed.map_err(|error| failed(&error))
    }

    /// Takes the tokens that must come next, and puts them into `forced`.
    pub fn consume_forced(&mut self, forced: &mut Vec<u32>) -> Result<(), GrammarError> {
        if !self.is_finished() {
            forced.extend(self.inner.consume_ff_tokens());
        }
        match self.inner.get_error() {
            Some(error) => Err(failed(&error)),
            None => Ok(()),
        }
    }

    /// Whether nothing may come any more.
    pub fn is_finished(&self) -> bool {
        self.inner.is_stopped()
    }

    /// Whether the text may end here.
    pub fn may_end(&mut self) -> Result<bool, GrammarError> {
        self.inner.is_accepting().map_err(|error| failed(&error))
    }

    /// Writes the masks of the next token and of those after each draft: `[rows][mask_words]`. There are fewer rows where
    /// the grammar does not allow a draft, or ends with it.
    pub fn masks(&mut self, drafts: &[u32], masks: &mut Vec<u32>) -> Result<(), GrammarError> {
        masks.clear();
        self.push_mask(masks)?;
        let mut taken = 0;
        let drafts = if self.can_roll_back { drafts } else { &[] };
        for &draft in drafts {
            let last = &masks[masks.len() - self.mask_words..];
            if last[draft as usize / 32] >> (draft % 32) & 1 == 0 {
                break;
            }
            self.consume(draft)?;
            taken += 1;
            if self.is_finished() {
                break;
            }
            self.push_mask(masks)?;
        }
        let rolled_back = self.inner.rollback(taken);
        rolled_back.map_err(|error| failed(&error))
    }

    /// Stops whatever is being computed, from another thread.
    pub fn cancellation(&self) -> Option<CancellationHandle> {
        self.inner.cancellation_handle()
    }

    fn push_mask(&mut self, masks: &mut Vec<u32>) -> Result<(), GrammarError> {
        let mask = self.inner.compute_mask().map_err(|error| failed(&error))?;
        let mask = mask.as_slice();
        let words = mask.len().min(self.mask_words);
        let end = masks.len() + self.mask_words;
        masks.extend_from_slice(&mask[..words]);
        masks.resize(end, 0);
        Ok(())
    }
}

fn failed(error: &impl ToString) -> GrammarError {
    let error = error.to_string();
    // What follows the first line is for llguidance's developers.
    let error = error.lines().next().unwrap_or_default();
    GrammarError::Invalid(format!(
        "the grammar cannot be followed any further: {error}"
    ))
}
