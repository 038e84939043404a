//! What a chat template knows, and requests put so that it understands them.

use serde_json::{Value as Json, json};

use super::chat_template::RenderRequest;
use super::generic_tools::put_tools_into_words;
use crate::tools::ToolFormat;

/// Texts that are found again in what a template writes.
const TEXT: &str = "probe text";
const NAME: &str = "probe_name";
const KEY: &str = "probe_key";

/// What a template knows, found out by trying it: templates fail on, or leave out without a word, what their authors did not
/// think of.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// How the model writes calls of tools.
    pub tool_format: &'static ToolFormat,
    /// Whether the template shows tools to the model. Else they are put into words.
    pub has_tools: bool,
    /// Whether it writes calls and results. Else they are put into words.
    pub has_calls: bool,
    /// Whether a message may have several calls.
    pub has_parallel_calls: bool,
    /// Whether it takes messages of the system.
    pub has_system: bool,
    has_developer: bool,
    /// Whether text must come as a list of parts.
    wants_parts: bool,
    /// Whether a message with calls may have null for its content, as OpenAI's have.
    has_null_content: bool,
    /// Whether arguments must be an object, not JSON in a string.
    wants_parsed_arguments: bool,
}

/// Of a template that writes role and content of each message and nothing else.
impl Default for Dialect {
    fn default() -> Self {
        Self {
            tool_format: ToolFormat::generic(),
            has_tools: false,
            has_calls: false,
            has_parallel_calls: true,
            has_system: true,
            has_developer: false,
            wants_parts: false,
            has_null_content: false,
            wants_parsed_arguments: true,
        }
    }
}

impl Dialect {
    /// Tries a template. `write` is what it makes of a request, None where it fails; `format` is used instead of the one that
    /// the template shows.
    pub fn probe(
        source: &str,
        format: Option<&'static ToolFormat>,
        write: impl Fn(RenderRequest) -> Option<String>,
    ) -> Self {
        let format = format.or(ToolFormat::of_template(source));
        let tool_format = format.unwrap_or(ToolFormat::generic());
        let Some(probe) = Probe::new(write) else {
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
            has_parallel_calls: !has_calls || probe.writes_calls(&content, arguments, 2),
            has_system: probe.writes_system(),
            has_developer: source.contains("developer"),
            wants_parts: probe.wants_parts,
            has_null_content,
            wants_parsed_arguments,
        }
    }

    /// The same request, so that the template understands it.
    pub fn adapt(&self, request: &RenderRequest) -> RenderRequest {
        let mut request = request.clone();
        for message in &mut request.messages {
            self.adapt_message(message);
        }
        put_tools_into_words(&mut request, self);
        if self.wants_parts {
            request.messages.iter_mut().for_each(split_content);
        }
        request
    }

    fn adapt_message(&self, message: &mut Json) {
        if message["role"] == "developer" && !self.has_developer {
            message["role"] = json!("system");
        }
        if let Some(content) = message.get_mut("content") {
            join_text_parts(content);
        }
        let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut);
        let has_calls = calls.is_some();
        for call in calls.into_iter().flatten() {
            self.adapt_call(call);
        }
        // Templates put text together, and null is no text.
        if message["content"].is_null() && !(has_calls && self.has_null_content) {
            message["content"] = json!("");
        }
        if self.tool_format.has_short_ids
            && let Some(id) = message.get_mut("tool_call_id")
        {
            shorten(id);
        }
    }

    fn adapt_call(&self, call: &mut Json) {
        let arguments = &mut call["function"]["arguments"];
        match arguments {
            // What is no JSON stays what it is: a model may have written it.
            Json::String(text) if self.wants_parsed_arguments => match text.trim() {
                "" => *arguments = json!({}),
                text => *arguments = serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            },
            Json::Null => *arguments = json!({}),
            _ => {}
        }
        if !self.wants_parsed_arguments && !arguments.is_string() {
            *arguments = arguments.to_string().into();
        }
        if self.tool_format.has_short_ids
            && let Some(id) = call.get_mut("id")
        {
            shorten(id);
        }
    }
}

/// Most templates take content as a string only, so parts become one, line by line as vLLM joins them.
fn join_text_parts(content: &mut Json) {
    let text_of = |part: &Json| match part["type"].as_str() {
        Some("text") => part["text"].as_str().map(str::to_owned),
        _ => None,
    };
    if let Some(texts) = content
        .as_array()
        .and_then(|parts| parts.iter().map(text_of).collect::<Option<Vec<_>>>())
    {
        *content = texts.join("\n").into();
    }
}

fn split_content(message: &mut Json) {
    if let Some(Json::String(text)) = message.get("content") {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
}

/// Templates of Mistral's refuse ids of another length. The end of an id differs most from others.
fn shorten(id: &mut Json) {
    const LENGTH: usize = 9;
    let Some(text) = id.as_str() else { return };
    let letters: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let last: String = letters[letters.len().saturating_sub(LENGTH)..]
        .iter()
        .collect();
    *id = format!("{last:0>LENGTH$}").into();
}

/// Requests that show what a template knows.
struct Probe<W> {
    write: W,
    wants_parts: bool,
}

impl<W: Fn(RenderRequest) -> Option<String>> Probe<W> {
    /// None if the template takes no message at all.
    fn new(write: W) -> Option<Self> {
        let mut probe = Self {
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

    fn writes_system(&self) -> bool {
        let system = json!({"role": "system", "content": self.text(TEXT)});
        self.writes(vec![system, self.user()], vec![], TEXT)
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

    /// Whether the arguments arrive as JSON.
    fn writes_calls(&self, content: &Json, arguments: &Json, count: usize) -> bool {
        let function = json!({"name": NAME, "arguments": arguments});
        let call = json!({"id": "probe0000", "type": "function", "function": function});
        let calls =
            json!({"role": "assistant", "content": content, "tool_calls": vec![call; count]});
        let result =
            json!({"role": "tool", "tool_call_id": "probe0000", "content": self.text("?")});
        let messages = vec![self.user(), calls, result];
        self.writes(messages, vec![], &format!("{{\"{KEY}\":"))
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
