use super::ScoredToken;
use crate::markup::{AnswerContent, CallPiece};

/// A piece of an answer: what it adds, and the tokens whose text ends in it. Pieces that are sent are not empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerPiece {
    /// Reasoning.
    pub reasoning: String,
    pub text: String,
    /// Pieces of tool calls, in order.
    pub calls: Vec<CallPiece>,
    /// None if tokens are not wanted.
    pub tokens: Option<Vec<ScoredToken>>,
}

impl AnswerPiece {
    /// Whether the piece adds no content, though it may add tokens.
    pub fn has_no_content(&self) -> bool {
        self.reasoning.is_empty() && self.text.is_empty() && self.calls.is_empty()
    }

    /// Whether the piece adds nothing.
    pub fn is_empty(&self) -> bool {
        self.has_no_content() && self.tokens.as_ref().is_none_or(Vec::is_empty)
    }

    /// Appends the next piece.
    pub fn append(&mut self, more: Self) {
        self.reasoning += &more.reasoning;
        self.text += &more.text;
        more.calls.into_iter().for_each(|call| self.add_call(call));
        if let Some(more) = more.tokens {
            self.tokens.get_or_insert_default().extend(more);
        }
    }

    /// Appends content.
    pub fn add(&mut self, content: AnswerContent) {
        match content {
            AnswerContent::Reasoning(text) => self.reasoning += &text,
            AnswerContent::Text(text) => self.text += &text,
            AnswerContent::Call(call) => self.add_call(call),
        }
    }

    fn add_call(&mut self, more: CallPiece) {
        match self.calls.last_mut() {
            Some(last) if last.index == more.index => last.arguments += &more.arguments,
            _ => self.calls.push(more),
        }
    }
}
