//! From a prompt to an answer, plain or streamed: the same for chats and plain completions, which differ in their [`Format`].

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

use super::{settings::Settings, stream::streamed};
use crate::{
    app::{App, unix_seconds},
    engine::{self, FinishReason, Generate},
    error::ApiError,
    model::{LoadedModel, ModelState, PromptError, ServedModel},
    openai::{self, Completion, Usage},
    reply::{End, Reply},
};

/// How a route writes its choices.
pub trait Format: 'static {
    /// The choice of a whole answer.
    type Choice: Serialize;
    /// The choice of a chunk.
    type ChunkChoice: Serialize;

    /// Begins the id of an answer.
    const ID_PREFIX: &str;
    /// The `object` of an answer.
    const OBJECT: &str;
    /// The `object` of a chunk.
    const CHUNK_OBJECT: &str;

    /// A whole answer.
    fn whole(text: String, reason: FinishReason) -> Self::Choice;
    /// What a stream begins with, before there is any text.
    fn opening() -> Option<Self::ChunkChoice>;
    /// More text.
    fn text(text: String) -> Self::ChunkChoice;
    /// The end of the text.
    fn end(reason: FinishReason) -> Self::ChunkChoice;
}

/// The model of this name, if it answers.
pub fn loaded<'a>(
    app: &'a App,
    name: Option<&str>,
) -> Result<(&'a ServedModel, Arc<LoadedModel>), ApiError> {
    if app.is_draining() {
        return Err(ApiError::try_later(
            "draining",
            "the server is shutting down",
        ));
    }
    let served = app.model(name).ok_or_else(|| {
        let ids: Vec<&str> = app.models().iter().map(|model| model.id.as_str()).collect();
        ApiError::model_not_found(name.unwrap_or_default(), &ids)
    })?;
    let id = &served.id;
    match served.state() {
        ModelState::Ready(model) => Ok((served, model)),
        ModelState::Loading => Err(ApiError::try_later(
            "model_loading",
            format!("the model '{id}' is still loading"),
        )),
        ModelState::Failed(why) => Err(ApiError::unavailable(
            "model_failed",
            format!("the model '{id}' failed: {why}"),
        )),
    }
}

/// Does work that takes a while where it holds nobody up.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PromptError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::internal(format!(
            "the prompt could not be made: {error}"
        ))),
    }
}

/// Generates an answer and sends it, in one piece or in many.
pub async fn answer<F: Format>(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompt: Vec<u32>,
    settings: Settings,
) -> Result<Response, ApiError> {
    let prompt_tokens = prompt.len() as u32;
    let generation = model.engine.submit(Generate {
        prompt,
        max_tokens: settings.max_tokens.unwrap_or(u32::MAX),
        params: settings.params,
        seed: settings.seed,
        priority: settings.priority,
        cache_prompt: settings.cache_prompt,
        deadline: app
            .server
            .request_timeout
            .map(|limit| Instant::now() + limit),
        bias: Vec::new(),
        scoring: None,
    })?;
    let meter = app.metrics.meter(&served.id, prompt_tokens);
    let vocabulary = model.engine.vocabulary().clone();
    let reply = Reply::new(generation, vocabulary, settings.stop, meter);
    let head = Head::new::<F>(&served.id, prompt_tokens);
    if settings.stream {
        let deltas = reply.into_stream();
        return Ok(streamed::<F>(
            deltas,
            head,
            settings.include_usage,
            app.server.keep_alive_interval,
        ));
    }
    let (text, end) = reply.collect().await?;
    Ok(Json(head.whole::<F>(text, end)).into_response())
}

/// What all parts of one answer have in common.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
    pub prompt_tokens: u32,
}

impl Head {
    fn new<F: Format>(model: &str, prompt_tokens: u32) -> Self {
        Self {
            id: format!("{}{}", F::ID_PREFIX, Uuid::new_v4().simple()),
            created: unix_seconds(),
            model: model.to_owned(),
            prompt_tokens,
        }
    }

    fn whole<F: Format>(self, text: String, end: End) -> Completion<F::Choice> {
        let usage = Usage::new(self.prompt_tokens, end.cached_tokens, end.completion_tokens);
        let choices = vec![F::whole(text, end.reason)];
        self.completion(F::OBJECT, choices, Some(Some(usage)))
    }

    /// An answer or a chunk of it.
    pub fn completion<C>(
        &self,
        object: &'static str,
        choices: Vec<C>,
        usage: Option<Option<Usage>>,
    ) -> Completion<C> {
        Completion {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }
}

impl From<engine::FinishReason> for openai::FinishReason {
    fn from(reason: engine::FinishReason) -> Self {
        match reason {
            engine::FinishReason::Stop => Self::Stop,
            engine::FinishReason::Length => Self::Length,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::chat_completions::Chat, *};

    #[test]
    fn a_whole_answer_has_its_usage() {
        let end = End {
            reason: FinishReason::Stop,
            completion_tokens: 3,
            cached_tokens: 0,
        };
        let head = Head {
            id: "x".to_owned(),
            created: 1,
            model: "m".to_owned(),
            prompt_tokens: 2,
        };
        let answer = serde_json::to_value(head.whole::<Chat>("Hi".to_owned(), end)).unwrap();
        let expected = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 0}},
        });
        assert_eq!(answer, expected);
    }
}
