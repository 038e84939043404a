//! Checks by the model's own logits that an answer is greedy.
//!
//! Real kernels round differently when a batch has another shape. So where two tokens are almost equally likely, a request
//! among others may get another text than alone, and both texts are right. They can still be told from a wrong one: when a
//! right answer is put through the model token by token, none of its tokens is less likely than the best by more than
//! [`TOLERANCE`].

use serde_json::{Value, json};
use tenon::plugin::{Session, Tokenizer};
use tenon_plugin_api::{Batch, Code, EncodeFlags, SessionArgs, Span, SpanOut, Vocabulary};

use crate::{Backend, LoadedModel};

/// How far a token of a greedy answer may be behind the best token, in logits.
///
/// Measured with SmolLM2: llama.cpp computes a batch of 64 or more tokens with another attention kernel than a smaller
/// batch, and nothing else about a batch makes a difference. A token that is best with one kernel was at most 0.3 behind the
/// best token of the other, in 1,500 positions. Tokens of wrong answers are mostly more than 1 behind.
pub const TOLERANCE: f32 = 0.75;

/// A model in this process that judges answers.
pub struct Judge {
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    session: Session,
    /// Logits of the last position: `[logits_width]`.
    logits: Vec<f32>,
    _loaded: LoadedModel,
}

impl Judge {
    /// Loads SmolLM2 through a plugin, without server and engine.
    pub fn smollm2(backend: Backend) -> Self {
        Self::of(backend.load(&backend.smollm2(), &json!({})))
    }

    /// Judges answers by any other model.
    pub fn of(loaded: LoadedModel) -> Self {
        let model = &loaded.model;
        let args = SessionArgs {
            max_sequences: 1,
            kv_tokens: 2048,
            max_batch_tokens: 512,
            threads: 1,
            ..SessionArgs::default()
        };
        let tokenizer = model.tokenizer().expect("a tokenizer");
        Self {
            vocabulary: tokenizer.vocabulary().expect("a vocabulary"),
            session: model.session(&args).expect("a session"),
            logits: vec![0.0; model.info().logits_width as usize],
            tokenizer,
            _loaded: loaded,
        }
    }

    /// How far the worst token of an answer was behind the best one. The prompt is encoded like that of a plain completion.
    pub fn worst_gap(&mut self, prompt: &str, answer: &str) -> f32 {
        let mut rest = answer.as_bytes();
        self.worst_gap_of(prompt, |judge| {
            let token = (!rest.is_empty()).then(|| judge.most_likely_beginning(rest))?;
            rest = &rest[judge.vocabulary.bytes(token).len()..];
            Some(token)
        })
    }

    /// Like [`worst_gap`](Self::worst_gap), for an answer whose tokens are known, each by its bytes. This matters where a
    /// text can be cut into tokens in two almost equally likely ways, because the next token may be very unlikely after one
    /// of them.
    pub fn worst_gap_of_tokens(&mut self, prompt: &str, answer: &[Vec<u8>]) -> f32 {
        let mut rest = answer.iter();
        self.worst_gap_of(prompt, |judge| {
            let bytes = rest.next()?;
            let mut tokens = 0..judge.vocabulary.len() as u32;
            let token = tokens.find(|&token| judge.vocabulary.bytes(token) == bytes);
            Some(token.unwrap_or_else(|| panic!("no token is {bytes:?}")))
        })
    }

    /// Like [`worst_gap`](Self::worst_gap), for the tokens that `next` returns one after the other.
    fn worst_gap_of(&mut self, prompt: &str, mut next: impl FnMut(&Self) -> Option<u32>) -> f32 {
        let flags = EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL;
        let mut tokens = self.tokenizer.encode(prompt, flags).expect("tokens");
        let (mut position, mut worst) = (0, 0.0_f32);
        loop {
            self.forward(position, &tokens);
            position += tokens.len() as u32;
            let Some(token) = next(self) else { break };
            worst = worst.max(self.gap(token));
            tokens = vec![token];
        }
        self.session.free(0);
        worst
    }

    fn forward(&mut self, position: u32, tokens: &[u32]) {
        let spans = [Span {
            start: position,
            len: tokens.len() as u32,
            rows: 1,
            ..Span::default()
        }];
        let mut out = [SpanOut::default()];
        let batch = Batch::new(tokens, &spans);
        self.session.forward(&batch, &mut out).expect("a forward");
        assert_eq!(out[0].status, Code::OK);
        let row = out[0].first_row;
        let read = self.session.read_logits(row, &mut self.logits);
        read.expect("logits");
    }

    /// The most likely of the tokens that the text may begin with. There is a token for each byte, so there is always one.
    fn most_likely_beginning(&self, text: &[u8]) -> u32 {
        let tokens = 0..self.vocabulary.len() as u32;
        let begins = |&token: &u32| {
            let bytes = self.vocabulary.bytes(token);
            !bytes.is_empty() && text.starts_with(bytes)
        };
        let logit = |token: &u32| self.logits[*token as usize];
        tokens
            .filter(begins)
            .max_by(|a, b| logit(a).total_cmp(&logit(b)))
            .expect("a token")
    }

    fn gap(&self, token: u32) -> f32 {
        let best = self.logits.iter().copied().fold(f32::MIN, f32::max);
        best - self.logits[token as usize]
    }
}

/// The bytes of a token in the log-probabilities of a completion: a text, or `bytes:\xe2\x80` for a token that is no whole
/// character.
pub fn token_bytes(token: &Value) -> Vec<u8> {
    let token = token.as_str().expect("a token");
    match token.strip_prefix("bytes:\\x") {
        Some(bytes) => bytes
            .split("\\x")
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
            .collect(),
        None => token.into(),
    }
}
