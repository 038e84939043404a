//! A small client that shows what is on the wire.

use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: String,
}

/// A stream of server-sent events, as it was read to its end.
#[derive(Debug, Default)]
pub struct Stream {
    /// What the events carried, without the final `[DONE]`.
    pub chunks: Vec<Value>,
    /// How many comments came in between.
    pub comments: usize,
    /// Whether it ended with `[DONE]`.
    pub done: bool,
}

impl Client {
    pub(crate) fn new(address: String) -> Self {
        Self {
            http: reqwest::Client::new(),
            address,
        }
    }

    /// Where a path of the server is.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self
            .http
            .get(self.url(path))
            .send()
            .await
            .expect("an answer");
        parsed(response).await
    }

    /// GET, as text.
    pub async fn get_text(&self, path: &str) -> String {
        let response = self
            .http
            .get(self.url(path))
            .send()
            .await
            .expect("an answer");
        response.text().await.expect("text")
    }

    /// POST of a JSON body, whose answer is not read yet.
    pub async fn send(&self, path: &str, body: &Value) -> Response {
        let request = self.http.post(self.url(path)).json(body);
        request.send().await.expect("an answer")
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        parsed(self.send(path, body).await).await
    }

    /// POST of a JSON body whose answer is a stream.
    pub async fn stream(&self, path: &str, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.send(path, &body).await;
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{}",
            response.text().await.unwrap()
        );
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        read_stream(response).await
    }

    /// The text of a chat with one user message.
    pub async fn chat(&self, message: &str, parameters: Value) -> String {
        let (status, answer) = self
            .post("/v1/chat/completions", &chat(message, parameters))
            .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let content = &answer["choices"][0]["message"]["content"];
        content
            .as_str()
            .unwrap_or_else(|| panic!("no content in {answer}"))
            .to_owned()
    }

    /// The value of a metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get_text("/metrics").await;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// A chat request with one user message and these parameters.
pub fn chat(message: &str, parameters: Value) -> Value {
    let mut body = parameters;
    body["messages"] = json!([{"role": "user", "content": message}]);
    body
}

impl Stream {
    /// The text of all chunks, of a chat or of a completion.
    pub fn text(&self) -> String {
        let choices = self.chunks.iter().map(|chunk| &chunk["choices"][0]);
        let text = choices.filter_map(|choice| {
            choice["delta"]["content"]
                .as_str()
                .or(choice["text"].as_str())
        });
        text.collect()
    }

    /// The reason that the last choice gives.
    pub fn finish_reason(&self) -> Option<&str> {
        self.chunks
            .iter()
            .find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str())
    }
}

async fn parsed(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("text");
    let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text:?}"));
    (status, value)
}

async fn read_stream(response: Response) -> Stream {
    let mut stream = Stream::default();
    let mut buffer = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(piece) = bytes.next().await {
        buffer.extend_from_slice(&piece.expect("a piece of the stream"));
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            // Each event must be whole characters by itself.
            stream.read(std::str::from_utf8(&event).expect("UTF-8"));
        }
    }
    assert!(buffer.is_empty(), "half an event at the end: {buffer:?}");
    stream
}

impl Stream {
    fn read(&mut self, event: &str) {
        assert!(!self.done, "{event:?} after [DONE]");
        match event.trim_end().strip_prefix("data: ") {
            Some("[DONE]") => self.done = true,
            Some(data) => self.chunks.push(serde_json::from_str(data).expect("JSON")),
            None if event.starts_with(':') => self.comments += 1,
            None => panic!("neither data nor a comment: {event:?}"),
        }
    }
}
