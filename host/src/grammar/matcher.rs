//! The position of a sequence in its grammar.

use std::sync::{Mutex, PoisonError};

use llguidance::CancellationHandle;

use super::GrammarError;

/// Stack of the threads that compile or match grammars. Nested schemas make llguidance recurse deeply.
pub const STACK_BYTES: usize = 16 << 20;

/// A matcher at the beginning of a grammar. Each sequence gets a copy of it.
pub struct Prototype {
    /// The matcher that is copied. Its lexer is built as far as the first mask needs it. Locked during a copy.
    inner: Mutex<llguidance::Matcher>,
    mask_words: usize,
}

impl Prototype {
    pub fn new(inner: llguidance::Matcher, mask_words: usize) -> Self {
        Self {
            inner: Mutex::new(inner),
            mask_words,
        }
    }

    /// A new matcher. Copies the lexer as built so far, which takes a while for a large grammar.
    pub fn matcher(&self) -> Matcher {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Matcher {
            inner: inner.deep_clone().into_cancellable(),
            mask_words: self.mask_words,
        }
    }
}

/// The position of one sequence in its grammar. Taking tokens and finding masks may take milliseconds, within the
/// limits of the configuration. After an error the matcher cannot be used any more.
pub struct Matcher {
    inner: llguidance::Matcher,
    mask_words: usize,
}

impl Matcher {
    /// Takes the next token, which the mask must have allowed.
    pub fn consume(&mut self, token: u32) -> Result<(), GrammarError> {
        consume(&mut self.inner, token)
    }

    /// Takes and returns the tokens that must come next.
    pub fn fast_forward(&mut self) -> Result<Vec<u32>, GrammarError> {
        let tokens = match self.is_finished() {
            true => Vec::new(),
            false => self.inner.consume_ff_tokens(),
        };
        match self.inner.get_error() {
            Some(error) => Err(failed(&error)),
            None => Ok(tokens),
        }
    }

    /// Whether no token may follow any more.
    pub fn is_finished(&self) -> bool {
        self.inner.is_stopped()
    }

    /// Whether the text may end here.
    #[cfg(test)]
    pub fn may_end(&mut self) -> Result<bool, GrammarError> {
        self.inner.is_accepting().map_err(|error| failed(&error))
    }

    /// Writes the mask of the next token, and the masks of the tokens after each draft token: `[rows][mask_words]`. The
    /// rows end early where the grammar does not allow a draft token, or ends with it.
    pub fn masks(&mut self, drafts: &[u32], masks: &mut Vec<u32>) -> Result<(), GrammarError> {
        masks.clear();
        push_mask(&mut self.inner, self.mask_words, masks)?;
        // A copy of the matcher takes the draft, because tokens that llguidance takes back leave traces in later masks.
        let mut ahead = None;
        for &draft in drafts {
            let last = &masks[masks.len() - self.mask_words..];
            if last[draft as usize / 32] >> (draft % 32) & 1 == 0 {
                break;
            }
            let ahead = ahead.get_or_insert_with(|| self.inner.clone());
            consume(ahead, draft)?;
            if ahead.is_stopped() {
                break;
            }
            push_mask(ahead, self.mask_words, masks)?;
        }
        Ok(())
    }

    /// A handle that stops the running computation from another thread.
    pub fn cancellation(&self) -> Option<CancellationHandle> {
        self.inner.cancellation_handle()
    }
}

fn consume(matcher: &mut llguidance::Matcher, token: u32) -> Result<(), GrammarError> {
    let consumed = matcher.consume_tokens(&[token]);
    consumed.map_err(|error| failed(&error))
}

fn push_mask(
    matcher: &mut llguidance::Matcher,
    mask_words: usize,
    masks: &mut Vec<u32>,
) -> Result<(), GrammarError> {
    let mask = matcher.compute_mask().map_err(|error| failed(&error))?;
    let mask = mask.as_slice();
    let words = mask.len().min(mask_words);
    let end = masks.len() + mask_words;
    masks.extend_from_slice(&mask[..words]);
    masks.resize(end, 0);
    Ok(())
}

fn failed(error: &impl ToString) -> GrammarError {
    let error = error.to_string();
    // The lines after the first one are for llguidance's developers.
    let error = error.lines().next().unwrap_or_default();
    GrammarError::Invalid(format!(
        "the grammar cannot be followed any further: {error}"
    ))
}
