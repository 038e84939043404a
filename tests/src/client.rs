//! A small client that shows what is sent over the wire.

use std::{
    path::Path,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::{Stream as Pieces, StreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{PATIENCE, plain_http};

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: String,
    key: Option<String>,
}

impl Client {
    /// A client of the server at this address, such as `http://127.0.0.1:8080`.
    pub fn new(address: String) -> Self {
        Self {
            http: plain_http().build().expect("a client"),
            address,
            key: None,
        }
    }

    /// A client of the server at this Unix socket.
    pub fn of_socket(socket: &Path) -> Self {
        let http = plain_http().unix_socket(socket).build();
        Self {
            http: http.expect("a client"),
            address: "http://localhost".to_owned(),
            key: None,
        }
    }

    /// The same client with a key.
    pub fn with_key(&self, key: &str) -> Self {
        let key = Some(key.to_owned());
        Self {
            key,
            ..self.clone()
        }
    }

    /// The URL of a path of the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// A request of any kind, for tests that the other functions do not fit.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = self.request(Method::GET, path);
        parsed(request.send().await.expect("an answer")).await
    }

    /// GET, as text.
    pub async fn get_text(&self, path: &str) -> String {
        let request = self.request(Method::GET, path);
        let response = request.send().await.expect("an answer");
        response.text().await.expect("text")
    }

    /// POST of a JSON body. The answer is not read yet.
    pub async fn send(&self, path: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).json(body);
        request.send().await.expect("an answer")
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        parsed(self.send(path, body).await).await
    }

    /// POST of a JSON body. The answer is a stream, which is not read yet.
    pub async fn open(&self, path: &str, body: &Value) -> Events {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.send(path, &body).await;
        if response.status() != StatusCode::OK {
            panic!("no stream: {:?}", response.text().await);
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events::new(response)
    }

    /// POST of a JSON body. The answer is a stream, which is read to its end.
    pub async fn stream(&self, path: &str, body: &Value) -> Stream {
        Stream::read(self.open(path, body).await).await
    }

    /// The text of a chat with one user message.
    pub async fn chat(&self, message: &str, parameters: Value) -> String {
        let body = chat(message, parameters);
        let (status, answer) = self.post("/v1/chat/completions", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        text(&answer).to_owned()
    }

    /// The value of a metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        metric_in(&self.get_text("/metrics").await, name)
    }

    /// Waits until a metric has this value.
    pub async fn wait_for_metric(&self, name: &str, expected: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name).await;
            if value == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{name} stays at {value}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The value of a metric on a page of metrics, summed over its labels.
pub fn metric_in(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A chat request with one user message and these parameters.
pub fn chat(message: &str, parameters: Value) -> Value {
    let mut body = parameters;
    body["messages"] = json!([{"role": "user", "content": message}]);
    body
}

/// The text of a whole answer or of a chunk, of a chat or of a completion. Empty if it has no text.
pub fn text(answer: &Value) -> &str {
    let choice = &answer["choices"][0];
    let places = [
        &choice["message"]["content"],
        &choice["delta"]["content"],
        &choice["text"],
    ];
    let text = places.iter().find_map(|place| place.as_str());
    text.unwrap_or_default()
}

/// A stream of server-sent events that is being read. Dropping it closes the connection.
pub struct Events {
    pieces: Pin<Box<dyn Pieces<Item = reqwest::Result<Vec<u8>>> + Send>>,
    buffer: Vec<u8>,
}

/// A server-sent event.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// `data: {…}`
    Chunk(Value),
    /// `: ping`
    Comment,
    /// `data: [DONE]`
    Done,
}

impl Events {
    fn new(response: Response) -> Self {
        let pieces = response.bytes_stream();
        Self {
            pieces: Box::pin(pieces.map(|piece| piece.map(Vec::from))),
            buffer: Vec::new(),
        }
    }

    /// The next event; None at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                // Each event must consist of whole characters.
                return Some(parse(std::str::from_utf8(&event).expect("UTF-8")));
            }
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend(piece.expect("a piece of the stream")),
                None if self.buffer.is_empty() => return None,
                None => panic!("half an event at the end: {:?}", self.buffer),
            }
        }
    }

    /// The text of all events that are left.
    pub async fn all_text(mut self) -> String {
        let mut all = String::new();
        while let Some(event) = self.next().await {
            if let Event::Chunk(chunk) = event {
                all += text(&chunk);
            }
        }
        all
    }

    /// Waits for the next text that is not empty.
    pub async fn next_text(&mut self) -> String {
        loop {
            match self.next().await.expect("a text") {
                Event::Chunk(chunk) if !text(&chunk).is_empty() => return text(&chunk).to_owned(),
                _ => {}
            }
        }
    }
}

/// Reads an event. If it has a name, this is the `type` of its data.
fn parse(event: &str) -> Event {
    let named = event.strip_prefix("event: ");
    let named = named.and_then(|named| named.split_once('\n'));
    let (name, data) = named.map_or((None, event), |(name, data)| (Some(name), data));
    match data.trim_end().strip_prefix("data: ") {
        Some("[DONE]") => Event::Done,
        Some(data) => {
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert!(name.is_none_or(|name| data["type"] == name), "{event:?}");
            Event::Chunk(data)
        }
        None if event.starts_with(':') => Event::Comment,
        None => panic!("neither data nor a comment: {event:?}"),
    }
}

/// A stream of server-sent events that was read to its end.
#[derive(Debug, Default)]
pub struct Stream {
    /// The data of the events, without the final `[DONE]`.
    pub chunks: Vec<Value>,
    /// Number of comments in the stream.
    pub comments: usize,
    /// Whether it ended with `[DONE]`.
    pub done: bool,
}

impl Stream {
    async fn read(mut events: Events) -> Self {
        let mut stream = Self::default();
        while let Some(event) = events.next().await {
            assert!(!stream.done, "{event:?} after [DONE]");
            match event {
                Event::Chunk(chunk) => stream.chunks.push(chunk),
                Event::Comment => stream.comments += 1,
                Event::Done => stream.done = true,
            }
        }
        stream
    }

    /// The text of all chunks.
    pub fn text(&self) -> String {
        self.chunks.iter().map(text).collect()
    }

    /// The finish reason of the first chunk that has one.
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
