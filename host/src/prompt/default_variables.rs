//! Variables that some template families use and their own tools set. Requests may override them.

use jiff::Zoned;
use jiff::fmt::strtime;
use minijinja::Value;
use serde_json::Value as Json;

use super::jinja::json::{JsonLayout, dumps};

/// The variables that the template's source names, with values for these tools.
pub fn of(source: &str, tools: &[Json]) -> Vec<(String, Value)> {
    let now = Zoned::now();
    let date = |format: &str| strtime::format(format, &now).unwrap_or_default();
    let known: [(&str, &dyn Fn() -> String); 3] = [
        // Llama 3.1 and later.
        ("date_string", &|| date("%d %b %Y")),
        // FireFunction. Only hours: with minutes, the start of the prompt would change too often to be cached.
        ("datetime", &|| date("%Y-%m-%d %H:00:00")),
        ("functions", &|| functions(tools)),
    ];
    let named = known.into_iter().filter(|(name, _)| source.contains(name));
    named
        .map(|(name, value)| (name.to_owned(), value().into()))
        .collect()
}

/// The functions that may be called, as JSON text. Empty if there are no tools.
fn functions(tools: &[Json]) -> String {
    let functions: Json = tools.iter().map(|tool| tool["function"].clone()).collect();
    match tools {
        [] => String::new(),
        // The value is JSON, so `dumps` fails only if the text is too long.
        _ => dumps(&functions, &JsonLayout::new(Some("    ".to_owned()))).unwrap_or_default(),
    }
}
