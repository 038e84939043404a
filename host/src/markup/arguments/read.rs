use serde_json::Value;

/// The result of reading a piece of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// More of the arguments.
    pub json: String,
    /// Bytes of the text that this JSON was read from.
    pub length: usize,
    /// Whether the arguments are complete.
    pub is_complete: bool,
}

/// A text escaped for a JSON string, without the quotation marks.
pub fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
