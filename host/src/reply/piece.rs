use super::ScoredToken;

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

/// A piece of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPiece {
    /// Number of the call in the answer, from 0.
    pub index: u32,
    /// What is called. Only in the first piece of a call.
    pub begin: Option<CallBegin>,
    /// More of the arguments, which are JSON.
    pub arguments: String,
}

/// The beginning of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallBegin {
    /// A new id, unique to this call.
    pub id: String,
    pub name: String,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Reasoning(String),
    Text(String),
    Call(CallPiece),
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

    /// Appends a part of the answer.
    pub fn add(&mut self, said: Said) {
        match said {
            Said::Reasoning(text) => self.reasoning += &text,
            Said::Text(text) => self.text += &text,
            Said::Call(call) => self.add_call(call),
        }
    }

    fn add_call(&mut self, more: CallPiece) {
        match self.calls.last_mut() {
            Some(last) if last.index == more.index => last.arguments += &more.arguments,
            _ => self.calls.push(more),
        }
    }
}
