//! From a prompt to an answer, plain or streamed.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;

use super::{
    super::blocking::blocking,
    dry::DrySettings,
    format::{Format, Head, Tally},
    settings::Settings,
    stream::{ChunkWriter, streamed},
    warnings::Warnings,
};
use crate::{
    app::App,
    engine::{DryOptions, Generate, Scoring},
    error::ApiError,
    grammar::CompiledGrammar,
    models::{LoadedModel, ServedModel},
    reply::{AnswerPiece, Echo, End, Reading, Reply, ReplyOptions, merged},
};

/// A prompt that is ready for the model.
#[derive(Default)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// The prompt's text, if the answer is to repeat it.
    pub echo: Option<Echo>,
    /// Whether later prompts may continue the answers to this one.
    pub goes_on: bool,
    /// Number of tokens at the prompt's end that a prompt which continues it will not have. None if that does not matter.
    pub passing_end: Option<u32>,
    /// How the text of the answers is interpreted: reasoning tags and tool calls.
    pub reading: Reading,
}

/// Generates the answers to these prompts, and sends them as a whole or as a stream.
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
    let (mut grammar, mut schema) = (None, None);
    if let Some(wanted) = settings.grammar.clone() {
        schema = wanted.schema.clone();
        grammar = Some(wanted.compile(model).await?);
    }
    let warnings = Warnings::new(settings.warnings.clone(), schema, grammar.as_deref()).await?;
    let dry = dry(model, settings.dry.clone()).await?;
    let replies = replies(app, served, model, prompts, &settings, dry, grammar)?;
    if settings.stream {
        let choices = replies.len() as u32;
        let chunks = ChunkWriter::new(head, tally, warnings, choices, settings.include_usage);
        let keep_alive = app.server.keep_alive_interval;
        let end = app.cut_off.clone().cancelled_owned();
        return Ok(streamed::<F>(merged(replies), chunks, keep_alive, end));
    }
    let answers = try_join_all(replies.into_iter().map(Reply::collect)).await?;
    for (index, (_, end)) in (0..).zip(&answers) {
        tally.add(index, end);
    }
    let best = best(answers, &settings);
    Ok(Json(head.whole::<F>(best, tally.usage(), &warnings)).into_response())
}

async fn dry(
    model: &LoadedModel,
    settings: Option<DrySettings>,
) -> Result<Option<DryOptions>, ApiError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let vocabulary = model.facts().vocabulary.clone();
    let options = blocking(move || settings.into_options(&vocabulary)).await?;
    Ok(Some(options))
}

/// Submits all generations of a request, or none of them.
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
    let requests = (0..wanted as u64).map(|index| Generate {
        dry: dry.clone(),
        grammar: grammar.clone(),
        deadline: settings.deadline,
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
                recorder: prompt.goes_on.then(|| model.recorder(&prompt.tokens)),
            };
            Reply::new(generation, model.facts().vocabulary.clone(), options, meter)
        });
    Ok(replies.collect())
}

/// The generation of a request's answer with this index.
fn generate(prompt: &Prompt, settings: &Settings, index: u64) -> Generate {
    let is_scored = settings.logprobs.is_some() || settings.best_of > settings.n;
    Generate {
        client: settings.client,
        prompt: prompt.tokens.clone(),
        max_tokens: settings.max_tokens.unwrap_or(u32::MAX),
        min_tokens: settings.min_tokens,
        params: settings.params,
        // Multiples of the golden ratio keep the seeds of one request apart from those of a request with the next seed.
        seed: settings
            .seed
            .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        priority: settings.priority,
        cache_prompt: settings.cache_prompt,
        cache_at: prompt
            .passing_end
            .and_then(|end| (prompt.tokens.len() as u32).checked_sub(end)),
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

/// Chooses, of the answers to each prompt, the `n` whose tokens are on average the most likely.
fn best(answers: Vec<(AnswerPiece, End)>, settings: &Settings) -> Vec<(AnswerPiece, End)> {
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

#[cfg(test)]
mod tests {
    use tenon_plugin_api::SamplingDefaults;

    use super::{super::format::tests::answer, *};
    use crate::openai::GenerationParameters;

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
