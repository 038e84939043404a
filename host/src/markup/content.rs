/// Content of an answer, as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerContent {
    Reasoning(String),
    Text(String),
    Call(CallPiece),
}

/// A piece of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPiece {
    /// Number of the call in the answer, from 0.
    pub index: u32,
    /// The call's id and function. Only in the first piece of a call.
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
