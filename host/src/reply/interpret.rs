use std::sync::Arc;

use super::{Piece, ReasoningSplitter, Thoughts};
use crate::tools::{CallParser, CallSyntax};

/// How an answer is read, beyond plain text.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// For models that think.
    pub thoughts: Option<Thoughts>,
    /// For answers that may call tools.
    pub calls: Option<CallSyntax>,
    /// Control tokens that are text: they begin or end thoughts or calls.
    pub marks: Arc<[u32]>,
}

/// Tells thoughts, text and calls apart: text → reasoning | text | calls.
pub struct Interpreter {
    reasoning: Option<ReasoningSplitter>,
    calls: Option<CallParser>,
}

impl Interpreter {
    /// At the beginning of an answer.
    pub fn new(reading: Reading) -> Self {
        Self {
            reasoning: reading.thoughts.map(ReasoningSplitter::new),
            calls: reading.calls.map(CallParser::new),
        }
    }

    /// Takes more text. The piece that it gives has no tokens yet.
    pub fn push(&mut self, text: String) -> Piece {
        let mut piece = Piece::default();
        let text = match &mut self.reasoning {
            Some(splitter) => {
                let split = splitter.push(&text);
                piece.reasoning = split.reasoning;
                split.text
            }
            None => text,
        };
        match &mut self.calls {
            Some(parser) => parser
                .push(&text)
                .into_iter()
                .for_each(|part| piece.add(part)),
            None => piece.text = text,
        }
        piece
    }

    /// Takes the end: nothing is held back any more.
    pub fn finish(&mut self) -> Piece {
        let mut piece = Piece::default();
        if let Some(splitter) = &mut self.reasoning {
            let split = splitter.finish();
            piece.reasoning = split.reasoning;
            piece.text = split.text;
        }
        if let Some(parser) = &mut self.calls {
            let text = std::mem::take(&mut piece.text);
            let parts = [parser.push(&text), parser.finish()].concat();
            parts.into_iter().for_each(|part| piece.add(part));
        }
        piece
    }

    /// Whether text comes out as it went in.
    pub fn is_plain(&self) -> bool {
        self.reasoning.is_none() && self.calls.is_none()
    }

    /// Whether what comes next is thought. None if the model does not think.
    pub fn is_reasoning(&self) -> Option<bool> {
        self.reasoning.as_ref().map(ReasoningSplitter::is_reasoning)
    }

    /// Whether as many calls as are allowed came.
    pub fn is_done(&self) -> bool {
        self.calls.as_ref().is_some_and(CallParser::is_done)
    }

    /// Whether calls, all of them complete, are why the answer ends.
    pub fn ends_with_calls(&self) -> bool {
        self.calls.as_ref().is_some_and(CallParser::ends_with_calls)
    }
}
