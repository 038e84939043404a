//! The options of a model: the table `options` in `[[models]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of a model. Every key may be left out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many of the last bytes are looked for in the text.
    #[schemars(range(min = 1, max = 64))]
    pub order: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { order: 12 }
    }
}
