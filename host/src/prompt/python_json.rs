//! JSON as Python's `json.dumps` writes it, which is what chat models were trained on.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};
