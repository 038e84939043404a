use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::{
    answers::RecordedAnswers,
    key::{Exceeded, Key, RunningRequest},
    texts::Texts,
};

/// The key, the model and the tokens of a request. Filled in while the request is answered, and read at its end.
#[derive(Debug, Default)]
pub struct Account {
    key: OnceLock<Arc<Key>>,
    /// Held as long as the account, so that the request counts as running until then.
    running: OnceLock<RunningRequest>,
    model: OnceLock<String>,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    /// The request's parameters, and how its answers ended.
    pub answers: RecordedAnswers,
    /// The texts of the request. None: they are not logged.
    texts: Option<Texts>,
}

impl Account {
    /// The account of a request whose texts go into the log.
    pub fn with_texts() -> Self {
        Self {
            texts: Some(Texts::default()),
            ..Self::default()
        }
    }

    /// Where the request's texts are noted. None: they are not logged.
    pub fn texts(&self) -> Option<&Texts> {
        self.texts.as_ref()
    }

    /// Notes the request's key.
    pub fn set_key(&self, key: Arc<Key>) {
        // A request has one key.
        let _ = self.key.set(key);
    }

    /// The request's key. None if it has none, or a wrong one.
    pub fn key(&self) -> Option<&Key> {
        self.key.get().map(AsRef::as_ref)
    }

    /// Begins the request, if the limits of its key allow it.
    pub fn begin(&self) -> Result<(), Exceeded> {
        if let Some(key) = self.key() {
            // A request begins once.
            let _ = self.running.set(key.begin()?);
        }
        Ok(())
    }

    /// Checks that the key has tokens left.
    pub fn check_tokens(&self) -> Result<(), Exceeded> {
        self.key().map_or(Ok(()), Key::check_tokens)
    }

    /// Notes the model that the request is for, by its id.
    pub fn set_model(&self, id: &str) {
        // A request is for one model.
        let _ = self.model.set(id.to_owned());
    }

    pub fn model(&self) -> Option<&str> {
        self.model.get().map(String::as_str)
    }

    /// Counts the tokens of prompts that are computed.
    pub fn add_prompt(&self, tokens: u64) {
        self.add(&self.prompt_tokens, tokens);
    }

    /// Counts a token of an answer.
    pub fn add_token(&self) {
        self.add(&self.completion_tokens, 1);
    }

    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens.load(Ordering::Relaxed)
    }

    pub fn completion_tokens(&self) -> u64 {
        self.completion_tokens.load(Ordering::Relaxed)
    }

    fn add(&self, to: &AtomicU64, tokens: u64) {
        to.fetch_add(tokens, Ordering::Relaxed);
        if let Some(key) = self.key() {
            key.take_tokens(tokens);
        }
    }
}
