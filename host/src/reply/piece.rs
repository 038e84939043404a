use super::ScoredToken;
use crate::tools::Part;

/// A piece of an answer, never empty: what it adds, and the tokens whose text ends in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Thoughts before the answer.
    pub reasoning: String,
    pub text: String,
    /// In order.
    pub calls: Vec<CallPiece>,
    /// None if they are not wanted.
    pub tokens: Option<Vec<ScoredToken>>,
}

/// A piece of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPiece {
    /// Which call, from 0.
    pub index: u32,
    /// In its first piece only.
    pub begin: Option<CallBegin>,
    /// More of its arguments, which are JSON.
    pub arguments: String,
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallBegin {
    /// Like no other.
    pub id: String,
    pub name: String,
}

impl Piece {
    /// Whether it adds nothing but tokens.
    pub fn has_no_content(&self) -> bool {
        self.reasoning.is_empty() && self.text.is_empty() && self.calls.is_empty()
    }

    /// Whether it adds nothing at all.
    pub fn is_empty(&self) -> bool {
        self.has_no_content() && self.tokens.as_ref().is_none_or(Vec::is_empty)
    }

    /// Adds what comes next.
    pub fn append(&mut self, more: Self) {
        self.reasoning += &more.reasoning;
        self.text += &more.text;
        more.calls.into_iter().for_each(|call| self.add_call(call));
        if let Some(more) = more.tokens {
            self.tokens.get_or_insert_default().extend(more);
        }
    }

    /// Adds what a parser found.
    pub fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text += &text,
            Part::Begin { index, id, name } => self.add_call(CallPiece {
                index,
                begin: Some(CallBegin { id, name }),
                arguments: String::new(),
            }),
            Part::Arguments { index, text } => self.add_call(CallPiece {
                index,
                begin: None,
                arguments: text,
            }),
        }
    }

    fn add_call(&mut self, more: CallPiece) {
        match self.calls.last_mut() {
            Some(last) if last.index == more.index => last.arguments += &more.arguments,
            _ => self.calls.push(more),
        }
    }
}
