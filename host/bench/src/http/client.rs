//! A client of any OpenAI-compatible server that notes when text arrives.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A server that is measured.
pub struct Client {
    http: reqwest::Client,
    /// The base URL, without a slash at the end.
    pub url: String,
    pub model: String,
    api_key: Option<String>,
    /// Fields that are added to every request.
    extra: Map<String, Value>,
}

/// The model, the key and further fields of the requests to a server.
pub struct Access {
    /// None: the first model that the server lists.
    pub model: Option<String>,
    pub api_key: Option<String>,
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
        // A proxy would be measured too. Each request gets its own connection: llama-server closes a connection silently
        // after each stream, and the next request on it would fail.
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()?;
        let url = url.trim_end_matches('/').trim_end_matches("/v1");
        let mut client = Self {
            http,
            url: url.to_owned(),
            model: String::new(),
            api_key: access.api_key.clone(),
            extra: access.extra.clone(),
        };
        client.model = match &access.model {
            Some(model) => model.clone(),
            None => client.first_model().await?,
        };
        Ok(client)
    }

    /// Sends a request and reads the answer to its end.
    pub async fn ask(&self, question: &Question) -> anyhow::Result<Answer> {
        let mut reply = self.open(question).await?;
        while reply.next().await? {}
        Ok(reply.answer)
    }

    /// Sends a request. The answer is still to be read.
    pub async fn open(&self, question: &Question) -> anyhow::Result<Reply> {
        let request = self.request("/v1/chat/completions", Some(&self.body(question)));
        let sent = Instant::now();
        let response = accepted(request.send().await?).await?;
        Ok(Reply {
            pieces: Box::pin(response.bytes_stream().map(|piece| piece.map(Vec::from))),
            buffer: Vec::new(),
            answer: Answer {
                sent,
                arrivals: Vec::with_capacity(question.max_tokens as usize),
                finished: None,
                usage: None,
            },
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

    async fn first_model(&self) -> anyhow::Result<String> {
        let response = self.request("/v1/models", None).send().await;
        let models: Value = accepted(response?).await?.json().await?;
        let id = models["data"][0]["id"].as_str();
        let id = id.with_context(|| format!("{} lists no model: name one (--model)", self.url))?;
        Ok(id.to_owned())
    }

    fn request(&self, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.url);
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

/// An answer that is being read. Dropping it cuts the connection.
pub struct Reply {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    /// Bytes that are not a complete line yet.
    buffer: Vec<u8>,
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
        loop {
            while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if self.take_line(&line)? {
                    return Ok(true);
                }
            }
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend(piece?),
                None => return Ok(false),
            }
        }
    }

    /// Takes a line, and returns whether it brought text.
    fn take_line(&mut self, line: &[u8]) -> anyhow::Result<bool> {
        let Some(data) = line.strip_prefix(b"data:") else {
            return Ok(false);
        };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Ok(false);
        }
        let chunk: Chunk = serde_json::from_slice(data)
            .with_context(|| format!("cannot read {}", String::from_utf8_lossy(data)))?;
        if let Some(error) = chunk.error {
            bail!("the server broke off: {error}");
        }
        self.answer.usage = chunk.usage.or(self.answer.usage);
        if chunk
            .choices
            .iter()
            .any(|choice| choice.finish_reason.is_some())
        {
            self.answer.finished = Some(Instant::now());
        }
        let has_text = chunk.choices.iter().any(Choice::has_text);
        if has_text {
            self.answer.arrivals.push(Instant::now());
        }
        Ok(has_text)
    }
}

impl Choice {
    fn has_text(&self) -> bool {
        let texts = [&self.delta.content, &self.delta.reasoning_content];
        texts.into_iter().flatten().any(|text| !text.is_empty())
    }
}

impl Answer {
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

/// The response, unless the server refused the request.
async fn accepted(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    Err(anyhow!("the server answers {status}: {}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Reply {
        Reply {
            pieces: Box::pin(futures_util::stream::empty()),
            buffer: Vec::new(),
            answer: Answer {
                sent: Instant::now(),
                arrivals: Vec::new(),
                finished: None,
                usage: None,
            },
        }
    }

    #[test]
    fn only_pieces_with_text_are_arrivals() {
        let mut reply = reply();
        for (line, has_text) in [
            (
                r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                false,
            ),
            (
                r#"data: {"choices":[{"delta":{"content":"a"}}],"usage":null}"#,
                true,
            ),
            (
                r#"data:{"choices":[{"delta":{"reasoning_content":"b"}}]}"#,
                true,
            ),
            (
                r#"data: {"choices":[{"delta":{},"finish_reason":"length"}]}"#,
                false,
            ),
            (": ping", false),
            ("", false),
            (
                r#"data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
                false,
            ),
            ("data: [DONE]", false),
        ] {
            assert_eq!(
                reply.take_line(line.as_bytes()).unwrap(),
                has_text,
                "{line}"
            );
        }
        assert_eq!(reply.answer.arrivals.len(), 2);
        assert_eq!(reply.answer.tokens(), 3);
    }

    #[test]
    fn an_error_in_a_stream_is_an_error() {
        let error = reply().take_line(br#"data: {"error":{"message":"gone"}}"#);
        assert!(error.unwrap_err().to_string().contains("gone"));
    }
}
