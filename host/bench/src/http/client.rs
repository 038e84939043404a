//! A client for servers of these APIs. It records when text arrives.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Map, Value};
use tenon_client::{Events, Server};

use super::api::{Api, BenchPrompt, EventContent, Usage};

/// A server that is measured.
pub struct MeasuredServer {
    server: Server,
    api: Api,
    pub model: String,
    /// Fields that are added to every request.
    extra: Map<String, Value>,
}

/// The API, the model, the key and further fields of the requests to a server.
pub struct Access {
    pub api: Api,
    /// None: the first model that the server lists.
    pub model: Option<String>,
    pub api_key: Option<String>,
    /// A file with the certificates of the authorities that may sign a server's certificate. None: the authorities that this
    /// machine trusts.
    pub authorities: Option<PathBuf>,
    pub extra: Map<String, Value>,
}

/// An answer as the client saw it, as far as it has arrived.
pub struct MeasuredAnswer {
    pub sent: Instant,
    /// When each piece with text arrived. A piece holds one token, or several that the server sent together.
    pub arrivals: Vec<Instant>,
    /// When the server reported the end of the answer.
    pub finished: Option<Instant>,
    /// The token counts of the server. None until it has reported them.
    pub usage: Option<Usage>,
}

impl MeasuredServer {
    /// Makes a client, and asks the server for its model unless `access` names one.
    pub async fn connect(url: &str, access: &Access) -> anyhow::Result<Self> {
        let server = Server::new(url, access.api_key.clone(), access.authorities.as_deref())?;
        let model = match &access.model {
            Some(model) => model.clone(),
            None => server.first_model().await?,
        };
        Ok(Self {
            server,
            api: access.api,
            model,
            extra: access.extra.clone(),
        })
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Sends a request and reads the answer to its end.
    pub async fn ask(&self, question: &BenchPrompt) -> anyhow::Result<MeasuredAnswer> {
        let mut reply = self.open(question).await?;
        while reply.next().await? {}
        Ok(reply.answer)
    }

    /// Sends a request. The answer is still to be read.
    pub async fn open(&self, question: &BenchPrompt) -> anyhow::Result<AnswerStream> {
        let body = self.body(question);
        let sent = Instant::now();
        let response = self.server.post(self.api.path(), &body).await?;
        Ok(AnswerStream {
            api: self.api,
            events: Events::of(response),
            answer: MeasuredAnswer::new(sent, question.max_tokens),
        })
    }

    fn body(&self, question: &BenchPrompt) -> Value {
        let mut body = self.api.body(&self.model, question);
        for (name, value) in &self.extra {
            body[name] = value.clone();
        }
        body
    }
}

/// An answer that is being read. Dropping it cuts the connection.
pub struct AnswerStream {
    api: Api,
    events: Events,
    pub answer: MeasuredAnswer,
}

impl AnswerStream {
    /// Waits for more text. False at the end of the answer.
    pub async fn next(&mut self) -> anyhow::Result<bool> {
        while let Some(data) = self.events.next().await? {
            let news = self.api.read(&data)?;
            self.answer.take(news);
            if news.has_text {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl MeasuredAnswer {
    fn new(sent: Instant, max_tokens: u32) -> Self {
        Self {
            sent,
            arrivals: Vec::with_capacity(max_tokens as usize),
            finished: None,
            usage: None,
        }
    }

    /// Takes the content of an event.
    fn take(&mut self, news: EventContent) {
        self.usage = news.usage.or(self.usage);
        if news.is_end {
            self.finished = Some(Instant::now());
        }
        if news.has_text {
            self.arrivals.push(Instant::now());
        }
    }

    /// The number of tokens of the answer, as the server counts them. Without its count, the number of pieces that arrived.
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
