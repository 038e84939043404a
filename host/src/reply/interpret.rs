use std::sync::Arc;

use super::{CallBegin, CallPiece, Said};
use crate::markup::{CallParser, CallSyntax, Reasoning, ReasoningSplitter, TextOrCall};

/// How an answer is read if it is more than plain text.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Reasoning. None if the model does not reason.
    pub reasoning: Option<Reasoning>,
    /// Tool calls. None if the answer may not call tools.
    pub calls: Option<CallSyntax>,
    /// Control tokens that count as text, because they begin or end reasoning or calls.
    pub marks: Arc<[u32]>,
}

impl From<TextOrCall> for Said {
    fn from(part: TextOrCall) -> Self {
        match part {
            TextOrCall::Text(text) => Self::Text(text),
            TextOrCall::Begin { index, id, name } => Self::Call(CallPiece {
                index,
                begin: Some(CallBegin { id, name }),
                arguments: String::new(),
            }),
            TextOrCall::Arguments { index, text } => Self::Call(CallPiece {
                index,
                begin: None,
                arguments: text,
            }),
        }
    }
}

/// Returns nothing for an empty text.
fn said(text: String, kind: fn(String) -> Said) -> Vec<Said> {
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

    /// Takes more text. Returns the parts that are decided now, in order.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        match &mut self.reasoning {
            Some(splitter) => {
                let split = splitter.push(text);
                let mut said = said(split.reasoning, Said::Reasoning);
                said.extend(self.push_answer(split.text));
                said
            }
            None => self.push_answer(text.to_owned()),
        }
    }

    /// Ends the answer. Returns the text that was held back. If the answer was cut off, the beginning of a mark at its
    /// end is dropped.
    pub fn finish(&mut self, is_cut_off: bool) -> Vec<Said> {
        let split = self
            .reasoning
            .as_mut()
            .map(|splitter| splitter.finish(is_cut_off));
        let split = split.unwrap_or_default();
        let mut said = said(split.reasoning, Said::Reasoning);
        said.extend(self.push_answer(split.text));
        if let Some(parser) = &mut self.calls {
            said.extend(parser.finish(is_cut_off).into_iter().map(Said::from));
        }
        said
    }

    fn push_answer(&mut self, text: String) -> Vec<Said> {
        match &mut self.calls {
            Some(parser) => parser.push(&text).into_iter().map(Said::from).collect(),
            None => said(text, Said::Text),
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
