//! Capabilities of a chat template, found by probing it.

use serde_json::{Value as Json, json};

use super::render_request::RenderRequest;
use super::turns::Turns;
use crate::markup::ToolFormat;

/// Texts to look for in the output of a template.
const TEXT: &str = "probe text";
const NAME: &str = "probe_name";
const KEY: &str = "probe_key";

/// Capabilities of a chat template. It is probed, because templates fail on, or silently leave out, what their authors did
/// not expect.
#[derive(Clone, Debug)]
pub struct TemplateCapabilities {
    /// How the model writes tool calls.
    pub tool_format: &'static ToolFormat,
    /// Whether the template shows tools to the model. If not, they are put into words.
    pub has_tools: bool,
    /// Whether the template writes tool calls and results. If not, calls are put into words.
    pub has_calls: bool,
    /// Whether results are messages of the role `tool`. If not, they are put into words.
    pub has_results: bool,
    /// Whether a message may have several tool calls.
    pub has_parallel_calls: bool,
    /// Orders of roles that the template takes.
    pub(super) turns: Turns,
    pub(super) has_developer: bool,
    /// Whether text must be a list of parts.
    pub(super) wants_parts: bool,
    /// Whether the content of a message with tool calls may be null, as in OpenAI's format.
    pub(super) has_null_content: bool,
    /// Whether arguments must be an object. If not, they are JSON in a string.
    pub(super) wants_parsed_arguments: bool,
    /// The form in which the template reads the reasoning of a message with tool calls.
    pub(super) reasoning: ReasoningField,
}

/// The field of a message in which a template reads reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningField {
    /// The template reads `reasoning_content`, as clients send it, or no reasoning.
    ReasoningContent,
    /// The template reads `thinking`, for example that of gpt-oss.
    Thinking,
    /// The template reads `thinking`, but a message with tool calls may have only reasoning or only text.
    ThinkingOrText,
}

/// The capabilities of a template that writes role and content of each message and nothing else.
impl Default for TemplateCapabilities {
    fn default() -> Self {
        Self {
            tool_format: ToolFormat::generic(),
            has_tools: false,
            has_calls: false,
            has_results: false,
            has_parallel_calls: true,
            turns: Turns::ALL,
            has_developer: false,
            wants_parts: false,
            has_null_content: false,
            wants_parsed_arguments: true,
            reasoning: ReasoningField::ReasoningContent,
        }
    }
}

impl TemplateCapabilities {
    /// Probes a template. `write` renders a request, or gives None if the template fails on it. `format` overrides the tool
    /// format that the template shows.
    pub fn probe(
        source: &str,
        format: Option<&'static ToolFormat>,
        write: impl Fn(RenderRequest) -> Option<String>,
    ) -> Self {
        let format = format.or(ToolFormat::of_template(source));
        let tool_format = format.unwrap_or(ToolFormat::generic());
        let Some(probe) = TemplateProbe::new(tool_format, write) else {
            return Self {
                tool_format,
                ..Self::default()
            };
        };
        let arguments = [json!({KEY: "x"}), json!({KEY: "x"}).to_string().into()];
        let [object, string] = &arguments;
        let takes_object = probe.takes_arguments(object);
        let has_calls = takes_object || probe.takes_arguments(string);
        let wants_parsed_arguments = takes_object || !has_calls;
        let arguments = if wants_parsed_arguments {
            object
        } else {
            string
        };
        let takes_results = || probe.takes(&["user", "assistant", "tool"], arguments);
        let has_results = has_calls || tool_format.has_tool_role && takes_results();
        // A template that puts any role between the same marks does not know the developer role.
        let has_developer =
            source.contains("developer") && probe.takes(&["developer", "user"], arguments);
        let has_null_content = probe.writes_calls(&Json::Null, arguments, 1);
        let content = if has_null_content {
            Json::Null
        } else {
            probe.text("")
        };
        Self {
            tool_format,
            has_tools: format.is_some() && probe.writes_tools(),
            has_calls,
            has_results,
            has_parallel_calls: !has_calls || probe.writes_calls(&content, arguments, 2),
            turns: Turns::probe(has_developer, |roles| {
                let is_shown = has_results || !roles.contains(&"call");
                // A call in words is an assistant's text.
                let written = |&role| match role {
                    "call" if !has_calls => "assistant",
                    role => role,
                };
                let roles: Vec<&str> = roles.iter().map(written).collect();
                !is_shown || probe.takes(&roles, arguments)
            }),
            has_developer,
            wants_parts: probe.wants_parts,
            has_null_content,
            wants_parsed_arguments,
            reasoning: match source.contains("thinking") {
                true => probe.reasoning(arguments),
                false => ReasoningField::ReasoningContent,
            },
        }
    }

    /// Capabilities to assume if the template refuses a chat. They need less of the template.
    pub fn stricter(&self) -> impl Iterator<Item = Self> {
        self.turns.stricter().into_iter().map(|turns| Self {
            turns,
            ..self.clone()
        })
    }
}

/// Renders small requests that show what a template can do.
struct TemplateProbe<W> {
    tool_format: &'static ToolFormat,
    write: W,
    wants_parts: bool,
}

impl<W: Fn(RenderRequest) -> Option<String>> TemplateProbe<W> {
    /// None if the template takes no message at all.
    fn new(tool_format: &'static ToolFormat, write: W) -> Option<Self> {
        let mut probe = Self {
            tool_format,
            write,
            wants_parts: false,
        };
        let as_text = probe.written_text();
        probe.wants_parts = true;
        let as_parts = probe.written_text();
        let is_text = |written: &String| written.contains(TEXT);
        probe.wants_parts =
            !as_text.as_ref().is_some_and(is_text) && as_parts.as_ref().is_some_and(is_text);
        (as_text.is_some() || as_parts.is_some()).then_some(probe)
    }

    fn written_text(&self) -> Option<String> {
        let messages = vec![json!({"role": "user", "content": self.text(TEXT)})];
        (self.write)(RenderRequest {
            messages,
            ..RenderRequest::default()
        })
    }

    /// Whether the template writes the text of each message, in this order. `call` is an assistant's message with a tool call.
    fn takes(&self, roles: &[&str], arguments: &Json) -> bool {
        let texts: Vec<String> = (0..roles.len()).map(|at| format!("{TEXT} {at}")).collect();
        let messages = roles.iter().zip(&texts).map(|(role, text)| match *role {
            "call" => self.calls(&self.text(text), arguments, 1),
            "tool" => self.result(text),
            "nothing" => json!({"role": "assistant", "content": self.text("")}),
            role => json!({"role": role, "content": self.text(text)}),
        });
        let request = RenderRequest {
            messages: messages.collect(),
            ..RenderRequest::default()
        };
        let Some(written) = (self.write)(request) else {
            return false;
        };
        // The template may leave out text beside a call.
        let has_text = |role: &str| !matches!(role, "call" | "nothing");
        let mut texts = roles.iter().zip(&texts).filter(|(role, _)| has_text(role));
        let mut rest = written.as_str();
        texts.all(|(_, text)| match rest.split_once(text) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    fn writes_tools(&self) -> bool {
        let parameters = json!({"type": "object", "properties": {KEY: {"type": "string", "description": ""}}, "required": [KEY]});
        let function = json!({"name": NAME, "description": "", "parameters": parameters});
        let tool = json!({"type": "function", "function": function});
        self.writes(vec![self.user()], vec![tool], NAME)
    }

    fn takes_arguments(&self, arguments: &Json) -> bool {
        self.writes_calls(&Json::Null, arguments, 1)
            || self.writes_calls(&self.text(""), arguments, 1)
    }

    /// Whether the template writes the arguments in the model's format.
    fn writes_calls(&self, content: &Json, arguments: &Json, count: usize) -> bool {
        let messages = vec![
            self.user(),
            self.calls(content, arguments, count),
            self.result("?"),
        ];
        self.writes(messages, vec![], &self.tool_format.argument_sign(KEY))
    }

    fn reasoning(&self, arguments: &Json) -> ReasoningField {
        let shows = |key: &str, text: &str| {
            let mut calls = self.calls(&self.text(text), arguments, 1);
            calls[key] = json!(TEXT);
            self.writes(vec![self.user(), calls, self.result("?")], vec![], TEXT)
        };
        match shows("thinking", "") && !shows("reasoning_content", "") {
            true if shows("thinking", "?") => ReasoningField::Thinking,
            true => ReasoningField::ThinkingOrText,
            false => ReasoningField::ReasoningContent,
        }
    }

    fn calls(&self, content: &Json, arguments: &Json, count: usize) -> Json {
        let function = json!({"name": NAME, "arguments": arguments});
        let call = json!({"id": "probe0000", "type": "function", "function": function});
        json!({"role": "assistant", "content": content, "tool_calls": vec![call; count]})
    }

    fn result(&self, text: &str) -> Json {
        json!({"role": "tool", "tool_call_id": "probe0000", "content": self.text(text)})
    }

    fn writes(&self, messages: Vec<Json>, tools: Vec<Json>, text: &str) -> bool {
        let request = RenderRequest {
            messages,
            tools,
            ..RenderRequest::default()
        };
        (self.write)(request).is_some_and(|written| written.contains(text))
    }

    fn user(&self) -> Json {
        json!({"role": "user", "content": self.text("?")})
    }

    fn text(&self, text: &str) -> Json {
        match self.wants_parts {
            true => json!([{"type": "text", "text": text}]),
            false => json!(text),
        }
    }
}
