//! A loaded model.

use std::sync::Arc;

use tenon_plugin_api::{ByteTokenizer, Model, ModelInfo, Result, Session, SessionArgs, Tokenizer};

use crate::{options::Options, session::ImitatorSession};

/// Tokens are the 256 bytes, then these.
const CONTROL: [&str; 2] = ["<|begin|>", "<|end|>"];
const BEGIN: u32 = 256;
const END: u32 = 257;
/// Number of tokens.
pub const VOCAB_SIZE: u32 = BEGIN + CONTROL.len() as u32;
/// Length of a row of logits. Where kernels want a multiple of something, it is larger than the vocabulary.
pub const LOGITS_WIDTH: usize = 288;
/// Positions that a sequence may have.
pub const CONTEXT_LENGTH: u32 = 4096;

/// A loaded model. Sessions share the weights: the host drops model and session in any order.
pub struct Imitator(Arc<Weights>);

/// A text, and how it is imitated.
pub struct Weights {
    text: Vec<u8>,
    options: Options,
}

impl Imitator {
    pub fn new(text: Vec<u8>, options: Options) -> Self {
        Self(Arc::new(Weights { text, options }))
    }
}

impl Model for Imitator {
    fn info(&self) -> ModelInfo {
        let mut info = ModelInfo::new("imitator", CONTEXT_LENGTH, VOCAB_SIZE);
        info.logits_width = LOGITS_WIDTH as u32;
        info.weight_bytes = self.0.text.len() as u64;
        info.bos = Some(BEGIN);
        info.eos = vec![END];
        info.chat_template = Some(include_str!("chat_template.jinja").into());
        info
    }

    /// For a model with a `tokenizer.json`, or in a GGUF file, take the feature `hf-tokenizer` of the SDK instead.
    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(ByteTokenizer::new(&CONTROL)))
    }

    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let session = ImitatorSession::new(self.0.clone(), args)?;
        Ok(Box::new(session))
    }
}

impl Weights {
    /// How many of the last tokens the next one depends on.
    pub fn order(&self) -> usize {
        self.options.order as usize
    }

    /// Appends the row of logits for the token after `past`. A token is more likely if more of the last tokens precede it
    /// somewhere in the text.
    pub fn predict(&self, past: &[u32], logits: &mut Vec<f32>) {
        let row = logits.len();
        logits.resize(row + VOCAB_SIZE as usize, 0.0);
        for at in 0..=self.text.len() {
            let before = self.text[..at].iter().rev().map(|&byte| u32::from(byte));
            let alike = before
                .zip(past.iter().rev())
                .take_while(|(a, b)| a == *b)
                .count();
            let next = self.text.get(at).map_or(END, |&byte| byte.into());
            let logit = &mut logits[row + next as usize];
            *logit = logit.max(3.0 * alike as f32);
        }
        logits.resize(row + LOGITS_WIDTH, f32::NEG_INFINITY);
    }
}
