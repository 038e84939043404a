//! Texts of prompts and answers, for the log.

use std::sync::Arc;

use tenon_plugin_api::Vocabulary;

use crate::keys::Account;

/// The tokens of an answer. Dropping it notes their text, also for an answer that was cancelled.
pub struct Transcript {
    account: Arc<Account>,
    vocabulary: Arc<Vocabulary>,
    tokens: Vec<u32>,
}

impl Transcript {
    /// The transcript of an answer that begins. None if texts are not logged.
    pub fn begin(account: Option<&Arc<Account>>, vocabulary: &Arc<Vocabulary>) -> Option<Self> {
        let account = account.filter(|account| account.texts().is_some())?;
        Some(Self {
            account: account.clone(),
            vocabulary: vocabulary.clone(),
            tokens: Vec::new(),
        })
    }

    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        if let Some(texts) = self.account.texts() {
            texts.add_answer(written(&self.tokens, &self.vocabulary));
        }
    }
}

/// Notes the text of a prompt, if texts are logged.
pub fn note_prompt(account: Option<&Account>, tokens: &[u32], vocabulary: &Vocabulary) {
    if let Some(texts) = account.and_then(Account::texts) {
        texts.add_prompt(written(tokens, vocabulary));
    }
}

/// The text of tokens. Control tokens have their written form.
pub fn written(tokens: &[u32], vocabulary: &Vocabulary) -> String {
    let bytes = tokens.iter().flat_map(|&token| vocabulary.bytes(token));
    let bytes: Vec<u8> = bytes.copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
