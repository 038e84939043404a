use std::sync::{Mutex, MutexGuard, PoisonError};

/// The texts of a request, for the log.
#[derive(Debug, Default)]
pub struct Texts {
    prompts: Mutex<Vec<String>>,
    answers: Mutex<Vec<String>>,
}

impl Texts {
    /// Notes a prompt, as the model reads it.
    pub fn add_prompt(&self, text: String) {
        lock(&self.prompts).push(text);
    }

    /// Notes an answer, as the model wrote it.
    pub fn add_answer(&self, text: String) {
        lock(&self.answers).push(text);
    }

    pub fn prompts(&self) -> Vec<String> {
        lock(&self.prompts).clone()
    }

    /// The answers so far, in the order in which they ended.
    pub fn answers(&self) -> Vec<String> {
        lock(&self.answers).clone()
    }
}

fn lock(texts: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    // The list is whole even if a thread panicked while it held the lock.
    texts.lock().unwrap_or_else(PoisonError::into_inner)
}
