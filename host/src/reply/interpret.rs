use std::sync::Arc;

use crate::markup::{AnswerContent, CallParser, CallRules, Reasoning, ReasoningSplitter};

/// How an answer is read if it is more than plain text.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Reasoning. None if the model does not reason.
    pub reasoning: Option<Reasoning>,
    /// Tool calls. None if the answer may not call tools.
    pub calls: Option<CallRules>,
    /// Control tokens that count as text, because they begin or end reasoning or calls.
    pub marks: Arc<[u32]>,
}

/// Returns nothing for an empty text.
fn content(text: String, kind: fn(String) -> AnswerContent) -> Vec<AnswerContent> {
    match text.is_empty() {
        true => Vec::new(),
        false => vec![kind(text)],
    }
}

/// Separates reasoning, text and tool calls in an answer that comes in pieces.
pub struct Interpreter {
    reasoning: Option<ReasoningSplitter>,
    calls: Option<CallParser>,
}

impl Interpreter {
    /// An interpreter at the beginning of an answer.
    pub fn new(reading: Reading) -> Self {
        Self {
            reasoning: reading.reasoning.map(ReasoningSplitter::new),
            calls: reading.calls.map(CallParser::new),
        }
    }

    /// Takes more text. Returns the content that is decided now, in order.
    pub fn push(&mut self, text: &str) -> Vec<AnswerContent> {
        match &mut self.reasoning {
            Some(splitter) => {
                let split = splitter.push(text);
                let mut content = content(split.reasoning, AnswerContent::Reasoning);
                content.extend(self.push_answer(split.text));
                content
            }
            None => self.push_answer(text.to_owned()),
        }
    }

    /// Ends the answer. Returns the text that was held back. If the answer was cut off, the beginning of a mark at its
    /// end is dropped.
    pub fn finish(&mut self, is_cut_off: bool) -> Vec<AnswerContent> {
        let split = self
            .reasoning
            .as_mut()
            .map(|splitter| splitter.finish(is_cut_off));
        let split = split.unwrap_or_default();
        let mut content = content(split.reasoning, AnswerContent::Reasoning);
        content.extend(self.push_answer(split.text));
        if let Some(parser) = &mut self.calls {
            content.extend(parser.finish(is_cut_off));
        }
        content
    }

    fn push_answer(&mut self, text: String) -> Vec<AnswerContent> {
        match &mut self.calls {
            Some(parser) => parser.push(&text),
            None => content(text, AnswerContent::Text),
        }
    }

    /// Bytes of text that came and are not decided yet.
    pub fn held_bytes(&self) -> usize {
        let reasoning = self.reasoning.as_ref().map(ReasoningSplitter::held_bytes);
        let calls = self.calls.as_ref().map(CallParser::held_bytes);
        reasoning.unwrap_or(0) + calls.unwrap_or(0)
    }

    /// Whether all text passes unchanged.
    pub fn is_plain(&self) -> bool {
        self.reasoning.is_none() && self.calls.is_none()
    }

    /// Whether reasoning comes next. None if the model does not reason.
    pub fn is_reasoning(&self) -> Option<bool> {
        self.reasoning.as_ref().map(ReasoningSplitter::is_reasoning)
    }

    /// Whether no more calls are read.
    pub fn is_done(&self) -> bool {
        self.calls.as_ref().is_some_and(CallParser::is_done)
    }

    /// Whether calls are the reason why the answer ends. All of them must be complete.
    pub fn ends_with_calls(&self) -> bool {
        self.calls.as_ref().is_some_and(CallParser::ends_with_calls)
    }
}
