//! The parameters of a request and the ends of its answers, for the record that is written when the request ends.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// The parameters that a request states. None of them is text.
#[derive(Debug, Default)]
pub struct StatedParameters {
    pub max_tokens: Option<i64>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub seed: Option<i64>,
    /// Number of answers to each prompt.
    pub answers: Option<u32>,
    pub is_streamed: bool,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub struct AnswerEnd {
    /// `stop`, `length` and `tool_calls` in OpenAI's words, else `error` or `abort`.
    pub reason: &'static str,
    /// When its first token came. None if none came.
    pub first_token: Option<Instant>,
    /// The mean time from a token to the next one. None before the second token.
    pub per_token: Option<Duration>,
}

impl AnswerEnd {
    /// Whether the answer came to an end by itself.
    pub fn is_finished(&self) -> bool {
        !matches!(self.reason, "error" | "abort")
    }
}

/// A request's parameters, the id of its response, and the ends of its answers.
#[derive(Debug, Default)]
pub struct RecordedAnswers {
    asked_model: OnceLock<String>,
    parameters: OnceLock<StatedParameters>,
    response_id: OnceLock<String>,
    ends: Mutex<Vec<AnswerEnd>>,
}

impl RecordedAnswers {
    /// Notes the name by which the request asks for its model.
    pub fn set_asked_model(&self, name: &str) {
        // A request asks for one model.
        let _ = self.asked_model.set(name.to_owned());
    }

    pub fn asked_model(&self) -> Option<&str> {
        self.asked_model.get().map(String::as_str)
    }

    pub fn set_parameters(&self, parameters: StatedParameters) {
        // A request has its parameters once.
        let _ = self.parameters.set(parameters);
    }

    pub fn parameters(&self) -> Option<&StatedParameters> {
        self.parameters.get()
    }

    pub fn set_response_id(&self, id: &str) {
        // A request has one response.
        let _ = self.response_id.set(id.to_owned());
    }

    pub fn response_id(&self) -> Option<&str> {
        self.response_id.get().map(String::as_str)
    }

    /// Notes the end of one of the answers.
    pub fn add_end(&self, end: AnswerEnd) {
        self.lock().push(end);
    }

    /// The ends of the answers so far, in the order in which they ended.
    pub fn ends(&self) -> Vec<AnswerEnd> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AnswerEnd>> {
        // A panic while the lock was held cannot have left the list half written.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
