//! From a prompt to an answer, plain or streamed: the same for chats and plain completions, which differ in their [`Format`].

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;
use serde::Serialize;
use uuid::Uuid;

use super::{
    dry::DrySettings,
    settings::Settings,
    stream::{ChunkWriter, streamed},
};
use crate::{
    app::{App, unix_seconds},
    engine::{DryOptions, FinishReason, Generate, Scoring},
    error::ApiError,
    grammar::CompiledGrammar,
    model::{LoadedModel, ModelState, ServedModel},
    openai::{self, Completion, CompletionTokensDetails, Usage},
    reply::{Echo, End, Piece, Reading, Reply, ReplyOptions, merged},
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
    fn whole(index: u32, answer: Piece, end: &End) -> Self::Choice;
    /// What a choice of a stream begins with, before there is any text.
    fn opening(index: u32) -> Option<Self::ChunkChoice>;
    /// More text.
    fn piece(index: u32, piece: Piece) -> Self::ChunkChoice;
    /// The end of the text.
    fn end(index: u32, end: &End) -> Self::ChunkChoice;
}

/// A prompt that is ready for the model.
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// If it is to be repeated.
    pub echo: Option<Echo>,
    /// What the text of its answers may mean.
    pub reading: Reading,
}

/// The model of this name, if it answers.
pub fn loaded<'a>(
    app: &'a App,
    name: Option<&str>,
) -> Result<(&'a Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let served = served(app, name)?;
    Ok((served, answering(served)?))
}

/// The model of this name, whether it answers or not.
pub fn served<'a>(app: &'a App, name: Option<&str>) -> Result<&'a Arc<ServedModel>, ApiError> {
    if app.is_draining() {
        return Err(ApiError::try_later(
            "draining",
            "the server is shutting down",
        ));
    }
    app.model(name).ok_or_else(|| {
        let ids: Vec<&str> = app.models().iter().map(|model| model.id.as_str()).collect();
        ApiError::model_not_found(name.unwrap_or_default(), &ids)
    })
}

/// What a model answers with now.
pub fn answering(served: &ServedModel) -> Result<Arc<LoadedModel>, ApiError> {
    let id = &served.id;
    match served.state() {
        ModelState::Ready(model) => Ok(model),
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
pub async fn blocking<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(ApiError::internal(format!(
            "the prompt could not be made: {error}"
        ))),
    }
}

/// Generates answers to these prompts and sends them, in one piece or in many.
pub async fn answer<F: Format>(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<Prompt>,
    settings: Settings,
) -> Result<Response, ApiError> {
    let head = Head::new::<F>(served, model);
    let prompt_tokens = prompts.iter().map(|prompt| prompt.tokens.len() as u32);
    let mut tally = Tally::new(prompt_tokens.sum(), settings.best_of);
    let grammar = match settings.grammar.clone() {
        Some(wanted) => Some(wanted.compile(model).await?),
        None => None,
    };
    let dry = dry(model, settings.dry.clone()).await?;
    let replies = replies(app, served, model, prompts, &settings, dry, grammar)?;
    if settings.stream {
        let choices = replies.len() as u32;
        let interval = app.server.keep_alive_interval;
        let chunks = ChunkWriter::new(head, tally, choices, settings.include_usage);
        return Ok(streamed::<F>(merged(replies), chunks, interval));
    }
    let answers = try_join_all(replies.into_iter().map(Reply::collect)).await?;
    for (index, (_, end)) in (0..).zip(&answers) {
        tally.add(index, end);
    }
    let best = best(answers, &settings);
    Ok(Json(head.whole::<F>(best, tally.usage())).into_response())
}

async fn dry(
    model: &LoadedModel,
    settings: Option<DrySettings>,
) -> Result<Option<DryOptions>, ApiError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let vocabulary = model.engine.vocabulary().clone();
    let options = blocking(move || settings.into_options(&vocabulary)).await?;
    Ok(Some(options))
}

/// Submits all generations of a request, or none.
fn replies(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<Prompt>,
    settings: &Settings,
    dry: Option<DryOptions>,
    grammar: Option<Arc<CompiledGrammar>>,
) -> Result<Vec<Reply>, ApiError> {
    let best_of = settings.best_of as usize;
    let (wanted, most) = (prompts.len() * best_of, model.engine.max_queue());
    if wanted > most {
        let message = format!(
            "the request is for {wanted} answers, of which at most {most} may wait: ask for fewer"
        );
        return Err(ApiError::invalid(message));
    }
    let deadline = app
        .server
        .request_timeout
        .map(|limit| Instant::now() + limit);
    let requests = (0..wanted as u64).map(|index| Generate {
        dry: dry.clone(),
        grammar: grammar.clone(),
        deadline,
        ..generate(&prompts[index as usize / best_of], settings, index)
    });
    let generations = model.engine.submit_all(requests.collect())?;
    let replies = generations
        .into_iter()
        .enumerate()
        .map(|(index, generation)| {
            let prompt = &prompts[index / best_of];
            let is_first = index % best_of == 0;
            let prompt_tokens = if is_first { prompt.tokens.len() } else { 0 };
            let meter = app.metrics.meter(&served.id, prompt_tokens as u32);
            let options = ReplyOptions {
                stop: settings.stop.clone(),
                with_tokens: settings.logprobs.is_some(),
                echo: prompt.echo.clone(),
                reading: prompt.reading.clone(),
            };
            Reply::new(
                generation,
                model.engine.vocabulary().clone(),
                options,
                meter,
            )
        });
    Ok(replies.collect())
}

/// What to generate as a request's answer of this index.
fn generate(prompt: &Prompt, settings: &Settings, index: u64) -> Generate {
    let is_scored = settings.logprobs.is_some() || settings.best_of > settings.n;
    Generate {
        prompt: prompt.tokens.clone(),
        max_tokens: settings.max_tokens.unwrap_or(u32::MAX),
        params: settings.params,
        // The golden ratio keeps the seeds of one request apart from those of another with the next seed.
        seed: settings
            .seed
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        priority: settings.priority,
        cache_prompt: settings.cache_prompt,
        deadline: None,
        bias: settings.bias.clone(),
        dry: None,
        grammar: None,
        scoring: is_scored.then(|| Scoring {
            top: settings.logprobs.unwrap_or(0),
            prompt: settings.logprobs.is_some() && prompt.echo.is_some(),
        }),
    }
}

/// Of the answers to each prompt those whose tokens are the most likely ones in the mean, if more were generated than wanted.
fn best(answers: Vec<(Piece, End)>, settings: &Settings) -> Vec<(Piece, End)> {
    if settings.best_of == settings.n {
        return answers;
    }
    let mut rest = answers.into_iter();
    let mut best = Vec::new();
    while rest.len() > 0 {
        let mut group: Vec<_> = rest.by_ref().take(settings.best_of as usize).collect();
        group.sort_by(|(_, a), (_, b)| b.mean_logprob.total_cmp(&a.mean_logprob));
        group.truncate(settings.n as usize);
        best.extend(group);
    }
    best
}

/// What the answers to a request took.
pub struct Tally {
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
    /// None unless the model thinks.
    reasoning_tokens: Option<u32>,
    answers_per_prompt: u32,
}

impl Tally {
    /// Before any answer.
    pub fn new(prompt_tokens: u32, answers_per_prompt: u32) -> Self {
        Self {
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: None,
            answers_per_prompt,
        }
    }

    /// Adds an answer. The prompt counts once: for the first of its answers.
    pub fn add(&mut self, index: u32, end: &End) {
        self.completion_tokens += end.completion_tokens;
        if let Some(tokens) = end.reasoning_tokens {
            *self.reasoning_tokens.get_or_insert_default() += tokens;
        }
        if index.is_multiple_of(self.answers_per_prompt) {
            self.cached_tokens += end.cached_tokens;
        }
    }

    pub fn usage(&self) -> Usage {
        let details = |reasoning_tokens| CompletionTokensDetails { reasoning_tokens };
        Usage {
            completion_tokens_details: self.reasoning_tokens.map(details),
            ..Usage::new(
                self.prompt_tokens,
                self.cached_tokens,
                self.completion_tokens,
            )
        }
    }
}

/// What all parts of one answer have in common.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
    pub system_fingerprint: String,
}

impl Head {
    fn new<F: Format>(served: &ServedModel, model: &LoadedModel) -> Self {
        Self {
            id: format!("{}{}", F::ID_PREFIX, Uuid::new_v4().simple()),
            created: unix_seconds(),
            model: served.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
        }
    }

    fn whole<F: Format>(self, answers: Vec<(Piece, End)>, usage: Usage) -> Completion<F::Choice> {
        let answers = (0..).zip(answers);
        let choices = answers.map(|(index, (answer, end))| F::whole(index, answer, &end));
        self.completion(F::OBJECT, choices.collect(), Some(Some(usage)))
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
            system_fingerprint: self.system_fingerprint.clone(),
            choices,
            usage,
        }
    }
}

/// Why an answer ended. One that was cut off may have calls, but that is not why.
pub fn finish_reason(end: &End) -> openai::FinishReason {
    match end.reason {
        FinishReason::Length => openai::FinishReason::Length,
        FinishReason::Stop if end.ends_with_calls => openai::FinishReason::ToolCalls,
        FinishReason::Stop => openai::FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenon_plugin_api::SamplingDefaults;

    use super::{super::chat_completions::Chat, *};
    use crate::openai::GenerationParameters;

    fn answer(text: &str, mean_logprob: f32) -> (Piece, End) {
        let piece = Piece {
            text: text.to_owned(),
            ..Piece::default()
        };
        let end = End {
            reason: FinishReason::Stop,
            completion_tokens: 3,
            cached_tokens: 1,
            reasoning_tokens: None,
            ends_with_calls: false,
            mean_logprob,
        };
        (piece, end)
    }

    #[test]
    fn a_whole_answer_has_its_usage() {
        let head = Head {
            id: "x".to_owned(),
            created: 1,
            model: "m".to_owned(),
            system_fingerprint: "fp".to_owned(),
        };
        let answers = vec![answer("Hi", 0.0), answer("Ho", 0.0)];
        let mut tally = Tally::new(2, 2);
        tally.add(0, &answers[0].1);
        tally.add(1, &answers[1].1);
        let answer = head.whole::<Chat>(answers, tally.usage());
        let answer = serde_json::to_value(answer).unwrap();
        let choice = |index, text| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            })
        };
        let expected = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
            "choices": [choice(0, "Hi"), choice(1, "Ho")],
            "usage": {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 1}},
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn the_likeliest_answers_to_each_prompt_are_the_best() {
        let parameters = GenerationParameters {
            n: Some(2),
            ..GenerationParameters::default()
        };
        let mut settings = Settings::new(&parameters, &SamplingDefaults::default(), 10).unwrap();
        let answers = || {
            [
                ("a", -3.0),
                ("b", -1.0),
                ("c", -2.0),
                ("d", -9.0),
                ("e", -8.0),
                ("f", -10.0),
            ]
        };
        let best = |settings: &Settings| -> Vec<String> {
            let answers = answers().map(|(text, mean)| answer(text, mean));
            let best = super::best(answers.to_vec(), settings).into_iter();
            best.map(|(piece, _)| piece.text).collect()
        };
        assert_eq!(best(&settings), ["a", "b", "c", "d", "e", "f"]);
        settings.best_of = 3;
        assert_eq!(best(&settings), ["b", "c", "e", "d"]);
    }
}
