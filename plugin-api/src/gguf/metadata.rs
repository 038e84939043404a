//! The metadata of a GGUF file: its statements about the model.

use std::collections::HashMap;

use super::Value;

/// Values by their keys, for example `llama.block_count`.
#[derive(Clone, Debug, Default)]
pub struct Metadata(HashMap<String, Value>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The value of a key, if it is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The value of a key, if it is a whole number that is not negative.
    pub fn whole(&self, key: &str) -> Option<u64> {
        self.get(key)?.whole()
    }

    /// The value of a key, if it is a list of texts.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        self.get(key)?.texts()
    }
}

impl From<HashMap<String, Value>> for Metadata {
    fn from(values: HashMap<String, Value>) -> Self {
        Self(values)
    }
}
