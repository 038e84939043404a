//! The APIs that a server can be measured through: their requests, and the events of their streams.

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// An API that streams answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Api {
    /// OpenAI's /v1/chat/completions.
    #[default]
    Chat,
    /// OpenAI's /v1/responses.
    Responses,
    /// Anthropic's /v1/messages.
    Messages,
}

/// A request.
pub struct BenchPrompt {
    pub user: String,
    pub max_tokens: u32,
    /// The JSON Schema of the answer. None: any text.
    pub schema: Option<Value>,
}

/// The token counts of an answer.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
}

/// The content of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventContent {
    pub has_text: bool,
    /// Whether the answer has ended.
    pub is_end: bool,
    pub usage: Option<Usage>,
}

const SYSTEM: &str = "You are a helpful assistant.";

impl Api {
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// The body of a request for a stream.
    pub fn body(self, model: &str, question: &BenchPrompt) -> Value {
        let user = json!({"role": "user", "content": question.user});
        let mut body = match self {
            Self::Chat => json!({
                "messages": [{"role": "system", "content": SYSTEM}, user],
                "max_tokens": question.max_tokens,
                "stream_options": {"include_usage": true},
            }),
            Self::Responses => json!({
                "instructions": SYSTEM,
                "input": [user],
                "max_output_tokens": question.max_tokens,
            }),
            Self::Messages => json!({
                "system": SYSTEM,
                "messages": [user],
                "max_tokens": question.max_tokens,
            }),
        };
        body["model"] = model.into();
        body["temperature"] = 0.into();
        body["stream"] = true.into();
        if let Some(schema) = &question.schema {
            self.ask_for(schema, &mut body);
        }
        body
    }

    /// Asks for an answer in JSON that follows a schema.
    fn ask_for(self, schema: &Value, body: &mut Value) {
        let named = json!({"name": "answer", "strict": true, "schema": schema});
        match self {
            Self::Chat => {
                body["response_format"] = json!({"type": "json_schema", "json_schema": named});
            }
            Self::Responses => {
                body["text"]["format"] = named;
                body["text"]["format"]["type"] = "json_schema".into();
            }
            Self::Messages => {
                body["output_config"]["format"] = json!({"type": "json_schema", "schema": schema});
            }
        }
    }

    /// Reads the data of an event.
    ///
    /// # Errors
    /// The event does not belong to this API, or reports an error.
    pub fn read(self, data: &[u8]) -> anyhow::Result<EventContent> {
        match self {
            Self::Chat => parse::<Chunk>(data)?.news(),
            Self::Responses => parse::<ResponseEvent>(data)?.news(),
            Self::Messages => parse::<MessageEvent>(data)?.news(),
        }
    }
}

fn parse<T: DeserializeOwned>(data: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(data)
        .with_context(|| format!("cannot read {}", String::from_utf8_lossy(data)))
}

fn broken_off(error: &Value) -> anyhow::Result<EventContent> {
    bail!("the server broke off: {error}")
}

fn is_some_text(texts: &[&Option<String>]) -> bool {
    texts.iter().copied().flatten().any(|text| !text.is_empty())
}

/// A chunk of a chat.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: ChatDelta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct ChatDelta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Chunk {
    fn news(self) -> anyhow::Result<EventContent> {
        if let Some(error) = &self.error {
            return broken_off(error);
        }
        let is_text = |choice: &Choice| {
            is_some_text(&[&choice.delta.content, &choice.delta.reasoning_content])
        };
        Ok(EventContent {
            has_text: self.choices.iter().any(is_text),
            is_end: self
                .choices
                .iter()
                .any(|choice| choice.finish_reason.is_some()),
            usage: self.usage,
        })
    }
}

/// An event of a response.
#[derive(Deserialize)]
struct ResponseEvent {
    #[serde(rename = "type")]
    kind: String,
    delta: Option<String>,
    response: Option<ResponseState>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct ResponseState {
    usage: Option<TokenCounts>,
    error: Option<Value>,
}

/// Token counts under the names of the two newer APIs.
#[derive(Clone, Copy, Deserialize)]
struct TokenCounts {
    input_tokens: u32,
    /// Tokens of the prompt that Anthropic's API does not count in `input_tokens`.
    #[serde(default)]
    cache_read_input_tokens: u32,
    output_tokens: u32,
}

impl From<TokenCounts> for Usage {
    fn from(counts: TokenCounts) -> Self {
        Self {
            prompt_tokens: counts.input_tokens + counts.cache_read_input_tokens,
            completion_tokens: counts.output_tokens,
        }
    }
}

impl ResponseEvent {
    fn news(self) -> anyhow::Result<EventContent> {
        let state = self.response.as_ref();
        let error = self
            .error
            .as_ref()
            .or(state.and_then(|state| state.error.as_ref()));
        if let Some(error) = error {
            return broken_off(error);
        }
        let kind = self.kind.as_str();
        let is_delta = matches!(
            kind,
            "response.output_text.delta" | "response.reasoning_text.delta"
        );
        Ok(EventContent {
            has_text: is_delta && is_some_text(&[&self.delta]),
            is_end: matches!(kind, "response.completed" | "response.incomplete"),
            usage: state.and_then(|state| state.usage).map(Usage::from),
        })
    }
}

/// An event of a message.
#[derive(Deserialize)]
struct MessageEvent {
    #[serde(default)]
    delta: MessageDelta,
    usage: Option<TokenCounts>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct MessageDelta {
    text: Option<String>,
    thinking: Option<String>,
    stop_reason: Option<String>,
}

impl MessageEvent {
    fn news(self) -> anyhow::Result<EventContent> {
        if let Some(error) = &self.error {
            return broken_off(error);
        }
        Ok(EventContent {
            has_text: is_some_text(&[&self.delta.text, &self.delta.thinking]),
            is_end: self.delta.stop_reason.is_some(),
            usage: self.usage.map(Usage::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the contents of a stream's events, in this order: something, text, the end; and how many tokens there were.
    fn check(api: Api, events: [&str; 3], errors: &[&str]) {
        let news = events.map(|data| api.read(data.as_bytes()).unwrap());
        assert_eq!(news.map(|news| news.has_text), [false, true, false]);
        assert_eq!(news.map(|news| news.is_end), [false, false, true]);
        let usage = news[2].usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (7, 3));
        for error in errors {
            let error = api.read(error.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("gone"), "{error}");
        }
    }

    #[test]
    fn events_of_chats_are_read() {
        let events = [
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
        ];
        check(Api::Chat, events, &[r#"{"error":{"message":"gone"}}"#]);
        let reasoning = br#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#;
        assert!(Api::Chat.read(reasoning).unwrap().has_text);
    }

    #[test]
    fn events_of_responses_are_read() {
        let events = [
            r#"{"type":"response.created","response":{"usage":null,"error":null}}"#,
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"type":"response.incomplete","response":{"usage":{"input_tokens":7,"output_tokens":3},"error":null}}"#,
        ];
        let errors = [
            r#"{"type":"error","error":{"message":"gone"}}"#,
            r#"{"type":"response.failed","response":{"usage":null,"error":{"message":"gone"}}}"#,
        ];
        check(Api::Responses, events, &errors);
        let call = br#"{"type":"response.function_call_arguments.delta","delta":"a"}"#;
        assert!(!Api::Responses.read(call).unwrap().has_text);
    }

    #[test]
    fn events_of_messages_are_read() {
        let events = [
            r#"{"type":"message_start","message":{"content":[]}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":2,"cache_read_input_tokens":5,"output_tokens":3}}"#,
        ];
        let error = r#"{"type":"error","error":{"message":"gone"}}"#;
        check(Api::Messages, events, &[error]);
    }
}
