//! Converts the arguments of a tool call from the format's notation to JSON while they are written.

mod pairs;
mod read;
mod tagged;

use serde_json::Value;

use self::{pairs::PairsReader, read::Read, tagged::TaggedReader};
use super::{
    format::{Arguments, CallFormat, ToolFormat},
    json::ValueEnd,
};

/// Reads the arguments of one call. The JSON does not depend on how the text is cut into pieces.
#[derive(Clone, Debug)]
pub enum ArgumentReader {
    Json(ValueEnd),
    Tagged(TaggedReader),
    Pairs(PairsReader),
}

impl ArgumentReader {
    /// A reader for the arguments of a function. `parameters` is the schema of the arguments.
    pub fn new(format: &ToolFormat, parameters: &Value) -> Self {
        let CallFormat::Named { arguments, .. } = format.call else {
            return Self::Json(ValueEnd::default());
        };
        match arguments {
            Arguments::Json => Self::Json(ValueEnd::default()),
            Arguments::Tagged(tags) => Self::Tagged(TaggedReader::new(tags, parameters.clone())),
            Arguments::Pairs(pairs) => Self::Pairs(PairsReader::new(pairs)),
        }
    }

    /// Reads as much of a text as possible. The next text must begin with the part that was not read.
    pub fn push(&mut self, text: &str) -> Read {
        match self {
            Self::Json(end) => {
                let complete = end.push(text);
                let length = complete.unwrap_or(text.len());
                Read {
                    json: text[..length].to_owned(),
                    length,
                    is_complete: complete.is_some(),
                }
            }
            Self::Tagged(reader) => reader.push(text),
            Self::Pairs(reader) => reader.push(text),
        }
    }
}
