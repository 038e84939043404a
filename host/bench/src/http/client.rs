//! A client of any OpenAI-compatible server that notes when text arrives.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tenon_client::{Events, Server};

/// A server that is measured.
pub struct Client {
    server: Server,
    pub model: String,
    /// Fields that are added to every request.
    extra: Map<String, Value>,
}

/// The model, the key and further fields of the requests to a server.
pub struct Access {
    /// None: the first model that the server lists.
    pub model: Option<String>,
    pub api_key: Option<String>,
    /// A file with the certificates of those who may sign a server's. None: those whom this machine trusts.
    pub authorities: Option<PathBuf>,
    pub extra: Map<String, Value>,
}

/// A request.
pub struct Question {
    pub user: String,
    pub max_tokens: u32,
    pub response_format: Option<Value>,
}

/// An answer as the client saw it, as far as it has arrived.
pub struct Answer {
    pub sent: Instant,
    /// When each piece with text arrived. A piece holds one token, or several that the server sent together.
    pub arrivals: Vec<Instant>,
    /// When the server reported the end of the answer.
    pub finished: Option<Instant>,
    /// The token counts of the server. None until it has reported them.
    pub usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
}

impl Client {
    /// Makes a client, and asks the server for its model unless `access` names one.
    pub async fn connect(url: &str, access: &Access) -> anyhow::Result<Self> {
        let server = Server::new(url, access.api_key.clone(), access.authorities.as_deref())?;
        let model = match &access.model {
            Some(model) => model.clone(),
            None => server.first_model().await?,
        };
        Ok(Self {
            server,
            model,
            extra: access.extra.clone(),
        })
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Sends a request and reads the answer to its end.
    pub async fn ask(&self, question: &Question) -> anyhow::Result<Answer> {
        let mut reply = self.open(question).await?;
        while reply.next().await? {}
        Ok(reply.answer)
    }

    /// Sends a request. The answer is still to be read.
    pub async fn open(&self, question: &Question) -> anyhow::Result<Reply> {
        let body = self.body(question);
        let sent = Instant::now();
        let response = self.server.post("/v1/chat/completions", &body).await?;
        Ok(Reply {
            events: Events::of(response),
            answer: Answer::new(sent, question.max_tokens),
        })
    }

    fn body(&self, question: &Question) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": question.user},
            ],
            "max_tokens": question.max_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(format) = &question.response_format {
            body["response_format"] = format.clone();
        }
        for (name, value) in &self.extra {
            body[name] = value.clone();
        }
        body
    }
}

/// An answer that is being read. Dropping it cuts the connection.
pub struct Reply {
    events: Events,
    pub answer: Answer,
}

/// The data of one event.
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
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Reply {
    /// Waits for more text. False at the end of the answer.
    pub async fn next(&mut self) -> anyhow::Result<bool> {
        while let Some(data) = self.events.next().await? {
            if self.answer.take(&data)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Choice {
    fn has_text(&self) -> bool {
        let texts = [&self.delta.content, &self.delta.reasoning_content];
        texts.into_iter().flatten().any(|text| !text.is_empty())
    }
}

impl Answer {
    fn new(sent: Instant, max_tokens: u32) -> Self {
        Self {
            sent,
            arrivals: Vec::with_capacity(max_tokens as usize),
            finished: None,
            usage: None,
        }
    }

    /// Takes the data of an event, and returns whether it brought text.
    fn take(&mut self, data: &[u8]) -> anyhow::Result<bool> {
        let chunk: Chunk = serde_json::from_slice(data)
            .with_context(|| format!("cannot read {}", String::from_utf8_lossy(data)))?;
        if let Some(error) = chunk.error {
            bail!("the server broke off: {error}");
        }
        self.usage = chunk.usage.or(self.usage);
        let mut choices = chunk.choices.iter();
        if choices.any(|choice| choice.finish_reason.is_some()) {
            self.finished = Some(Instant::now());
        }
        let has_text = chunk.choices.iter().any(Choice::has_text);
        if has_text {
            self.arrivals.push(Instant::now());
        }
        Ok(has_text)
    }

    /// The number of tokens of the answer: as the server counts, else the pieces that arrived.
    pub fn tokens(&self) -> u32 {
        let counted = self.usage.map(|usage| usage.completion_tokens);
        counted.unwrap_or(self.arrivals.len() as u32)
    }

    /// The time from sending the request to the first text, or to the end of an answer without text.
    pub fn time_to_first_token(&self) -> anyhow::Result<Duration> {
        let first = self.arrivals.first().copied().or(self.finished);
        Ok(first.context("an answer had neither text nor an end")? - self.sent)
    }

    /// The times between pieces of text.
    pub fn gaps(&self) -> impl Iterator<Item = Duration> {
        self.arrivals.windows(2).map(|two| two[1] - two[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::new(Instant::now(), 0)
    }

    #[test]
    fn only_pieces_with_text_are_arrivals() {
        let mut answer = answer();
        for (data, has_text) in [
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#,
                true,
            ),
            (r#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#, true),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
                false,
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
                false,
            ),
        ] {
            assert_eq!(answer.take(data.as_bytes()).unwrap(), has_text, "{data}");
        }
        assert_eq!(answer.arrivals.len(), 2);
        assert_eq!(answer.tokens(), 3);
    }

    #[test]
    fn an_error_in_a_stream_is_an_error() {
        let error = answer().take(br#"{"error":{"message":"gone"}}"#);
        assert!(error.unwrap_err().to_string().contains("gone"));
    }
}
