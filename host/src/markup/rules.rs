use std::sync::Arc;

use serde_json::Value;

use super::ToolFormat;

/// Which functions an answer may or must call, and how calls are written.
#[derive(Clone, Debug)]
pub struct CallRules {
    /// The format of calls.
    pub format: &'static ToolFormat,
    /// The functions that may be called. A call of any other function is text.
    pub functions: Arc<[Callable]>,
    /// Whether the answer may have several calls.
    pub is_parallel: bool,
    /// Whether the answer must call something.
    pub demand: Demand,
}

/// A function that may be called.
#[derive(Clone, Debug)]
pub struct Callable {
    pub name: String,
    /// The schema of the arguments.
    pub parameters: Value,
}

/// Whether an answer must call functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The model may call functions or not.
    Nothing,
    /// The answer consists of calls, at least one.
    Any,
    /// The answer is one call of the function that the request names.
    Named,
}

impl CallRules {
    /// The rules of answers that call nothing, if the format marks text too.
    pub fn of_marked_text(format: &'static ToolFormat) -> Option<Self> {
        format.prompted().map(|_| Self {
            format,
            functions: Arc::new([]),
            is_parallel: false,
            demand: Demand::Nothing,
        })
    }

    /// Whether the answer consists of calls only, at least one.
    pub fn are_forced(&self) -> bool {
        self.demand != Demand::Nothing
    }
}
