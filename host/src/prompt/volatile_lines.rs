//! Removes lines of system messages that differ in every request and tell the model nothing.
//!
//! Claude Code begins its system text with `x-anthropic-billing-header: … cch=HASH;`. Text after the first difference
//! between two prompts is not cached, so such lines are removed. A gateway may have joined them with other text, so the
//! patterns match lines and not messages or parts.

use std::borrow::Cow;

use regex::RegexSet;
use serde_json::Value as Json;

use super::RenderRequest;

/// Patterns of lines to remove.
#[derive(Clone, Debug, Default)]
pub struct VolatileLines(RegexSet);

impl PartialEq for VolatileLines {
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns() == other.0.patterns()
    }
}

impl VolatileLines {
    /// Compiles regular expressions. A line is removed if one of them matches anywhere in it.
    ///
    /// # Errors
    /// If one of them is not a valid regular expression.
    pub fn new(patterns: &[String]) -> Result<Self, regex::Error> {
        Ok(Self(RegexSet::new(patterns)?))
    }

    /// The request without matching lines, and without messages and parts that are empty then.
    pub(super) fn left_out<'a>(&self, request: &'a RenderRequest) -> Cow<'a, RenderRequest> {
        if !request.messages.iter().any(|message| self.are_in(message)) {
            return Cow::Borrowed(request);
        }
        let mut request = request.clone();
        request.messages.retain_mut(|message| {
            let changes = self.are_in(message);
            if changes {
                self.leave_out(&mut message["content"]);
            }
            !(changes && is_empty(&message["content"]))
        });
        Cow::Owned(request)
    }

    fn are_in(&self, message: &Json) -> bool {
        let is_system = message["role"] == "system" || message["role"] == "developer";
        let parts = message["content"].as_array().into_iter().flatten();
        let texts = parts.map(|part| &part["text"]).chain([&message["content"]]);
        is_system && texts.filter_map(Json::as_str).any(|text| self.is_in(text))
    }

    fn is_in(&self, text: &str) -> bool {
        text.lines().any(|line| self.0.is_match(line))
    }

    fn leave_out(&self, content: &mut Json) {
        match content {
            Json::String(text) => *text = self.without(text),
            Json::Array(parts) => parts.retain_mut(|part| match part.get_mut("text") {
                Some(Json::String(text)) if self.is_in(text) => {
                    *text = self.without(text);
                    !text.is_empty()
                }
                _ => true,
            }),
            _ => {}
        }
    }

    fn without(&self, text: &str) -> String {
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !self.0.is_match(line.trim_end_matches(['\n', '\r'])))
            .collect()
    }
}

fn is_empty(content: &Json) -> bool {
    match content {
        Json::String(text) => text.is_empty(),
        Json::Array(parts) => parts.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(messages: Json, expected: Json) {
        let lines = VolatileLines::new(&["^x-billing:".to_owned(), "^now: ".to_owned()]).unwrap();
        let request = RenderRequest {
            messages: messages.as_array().unwrap().clone(),
            ..RenderRequest::default()
        };
        assert_eq!(
            Json::from(lines.left_out(&request).messages.clone()),
            expected
        );
    }

    #[test]
    fn only_such_lines_of_the_system_are_left_out() {
        let said = |role: &str, content: Json| json!({"role": role, "content": content});
        check(
            json!([
                said(
                    "system",
                    json!("x-billing: cch=1;\nBe brief.\r\nnow: 12\nx-billing\n")
                ),
                said("user", json!("now: 12"))
            ]),
            json!([
                said("system", json!("Be brief.\r\nx-billing\n")),
                said("user", json!("now: 12"))
            ]),
        );
        let parts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| json!({"type": "text", "text": text}))
                .collect::<Json>()
        };
        check(
            json!([said("developer", parts(&["x-billing: 1", "Be brief.", ""]))]),
            json!([said("developer", parts(&["Be brief.", ""]))]),
        );
        let image = json!({"type": "image"});
        check(
            json!([said(
                "system",
                json!([{"text": "now: 12"}, image, "now: 12"])
            )]),
            json!([said("system", json!([image, "now: 12"]))]),
        );
        check(
            json!([
                said("system", json!("now: 12")),
                said("system", json!("")),
                said("user", json!("Hi"))
            ]),
            json!([said("system", json!("")), said("user", json!("Hi"))]),
        );
    }
}
