//! Serializes a JSON value as its text, because formats that are not self-describing cannot read a value. The order of keys
//! stays.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// Most arrays and objects within each other that serde_json reads.
const MAX_DEPTH: usize = 127;

/// Writes the text of a value.
///
/// # Errors
/// The value is nested so deeply that its text could not be read.
pub fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    if depth(value) > MAX_DEPTH {
        return Err(ser::Error::custom("the JSON is nested too deeply"));
    }
    value.to_string().serialize(serializer)
}

/// Reads a value from its text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let text = String::deserialize(deserializer)?;
    serde_json::from_str(&text).map_err(de::Error::custom)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
