//! `[prompts]`: how messages are changed before they become a prompt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusals::Refusals;
use crate::prompt::VolatileLines;

/// How messages are changed before they become a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompts {
    pub volatile_lines: VolatileLines,
}

/// How messages are changed before they become a prompt.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPrompts {
    /// Regular expressions. Each line of a system message in which one of them matches is left out. Some clients begin
    /// their prompts with a line that differs in every request, and nothing behind it could be cached. [] leaves all lines
    /// in.
    volatile_lines: Vec<String>,
}

impl Default for RawPrompts {
    fn default() -> Self {
        Self {
            volatile_lines: vec!["^x-anthropic-billing-header:".to_owned()],
        }
    }
}

impl RawPrompts {
    pub fn resolve(self, refusals: &mut Refusals) -> Prompts {
        let volatile_lines = VolatileLines::new(&self.volatile_lines);
        Prompts {
            volatile_lines: volatile_lines.unwrap_or_else(|error| {
                // The error's last line says what is wrong; the lines before it show the place.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or(&error);
                let reason = reason.trim_start_matches("error: ");
                let why = format!("must hold regular expressions, and one is none: {reason}");
                refusals.refuse(&["prompts", "volatile_lines"], &why);
                VolatileLines::default()
            }),
        }
    }
}
