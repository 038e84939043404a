//! Sends a worker's news to the server.

use std::sync::Arc;

use super::{
    frames::frame,
    line::Line,
    messages::{Answer, Id, News},
};

/// Sends news to the server. Clones use the same line.
#[derive(Clone)]
pub struct Outbox(Arc<Line>);

impl Outbox {
    pub fn new(line: Arc<Line>) -> Self {
        Self(line)
    }

    /// Sends news.
    pub fn tell(&self, news: &News) {
        match frame(news) {
            Ok(frame) => self.0.send(&frame),
            Err(error) => tracing::error!("the server cannot be told something: {error}"),
        }
    }

    /// Sends the answer to a call.
    pub fn answer(&self, call: Id, answer: Answer) {
        self.tell(&News::Answer { call, answer });
    }
}
