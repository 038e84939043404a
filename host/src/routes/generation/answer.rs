//! From a prompt to an answer, plain or streamed.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;

use super::{
    super::blocking::blocking,
    dry::DrySettings,
    format::{Format, Head, Tally},
    grammar::AnswerGrammar,
    reasoning_budget::reasoning_budget,
    settings::Settings,
    stream::{ChunkWriter, streamed},
    warnings::Warnings,
};
use crate::{
    app::App,
    engine::{DryOptions, PromptTokens},
    error::ApiError,
    models::{LoadedModel, ServedModel},
    reply::{AnswerPiece, Echo, End, Reading, Reply, ReplyOptions, merged, note_prompt},
    runner::Steering,
};

/// A prompt that is ready for the model.
#[derive(Default)]
pub struct Prompt {
    /// The prompt's tokens, for the engine.
    pub input: PromptTokens,
    /// The prompt's text, if the answer is to repeat it.
    pub echo: Option<Echo>,
    /// Whether later prompts may continue the answers to this one.
    pub goes_on: bool,
    /// How the text of the answers is interpreted: reasoning tags and tool calls.
    pub reading: Reading,
}

/// The answers to a request while the engine generates them, with the token counts and warnings for their end.
pub struct Answers {
    /// Each answer, in order.
    pub replies: Vec<Reply>,
    pub tally: Tally,
    pub warnings: Warnings,
}

/// Generates the answers to these prompts, and sends them as a whole or as a stream.
pub async fn answer<F: Format>(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<Prompt>,
    settings: Settings,
    grammar: Option<AnswerGrammar>,
) -> Result<Response, ApiError> {
    let head = Head::new::<F>(served, model);
    settings.note_id(&head.id);
    let answers = begin(app, served, model, prompts, &settings, grammar).await?;
    let Answers {
        replies,
        mut tally,
        warnings,
    } = answers;
    if settings.stream {
        let choices = replies.len() as u32;
        let chunks = ChunkWriter::new(head, tally, warnings, choices, settings.include_usage);
        let keep_alive = app.now().config.server.keep_alive_interval;
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

/// Begins to generate the answers to these prompts.
pub async fn begin(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<Prompt>,
    settings: &Settings,
    grammar: Option<AnswerGrammar>,
) -> Result<Answers, ApiError> {
    let prompt_tokens = prompts
        .iter()
        .map(|prompt| prompt.input.tokens.len() as u32);
    let tally = Tally::new(prompt_tokens.sum(), settings.best_of);
    let warnings = Warnings::new(settings.warnings.clone(), grammar.as_ref()).await?;
    let steering = Steering {
        dry: dry(model, settings.dry.clone()).await?,
        grammar: grammar.map(|grammar| grammar.compiled),
        reasoning: reasoning_budget(model, &prompts, settings).await?,
    };
    Ok(Answers {
        replies: replies(app, served, model, prompts, settings, steering).await?,
        tally,
        warnings,
    })
}

async fn dry(
    model: &LoadedModel,
    settings: Option<DrySettings>,
) -> Result<Option<DryOptions>, ApiError> {
    let vocabulary = model.facts().vocabulary.clone();
    match settings {
        Some(settings) => blocking(move || settings.into_options(&vocabulary).map(Some)).await,
        None => Ok(None),
    }
}

/// Refuses a request whose answers cannot all wait. Routes with several prompts call it before these are encoded.
pub fn check_count(
    prompts: usize,
    settings: &Settings,
    model: &LoadedModel,
) -> Result<(), ApiError> {
    let (wanted, most) = (
        prompts.saturating_mul(settings.best_of as usize),
        model.spec.max_queue,
    );
    if wanted <= most {
        return Ok(());
    }
    let message = format!(
        "the request is for {wanted} answers, of which at most {most} may wait: ask for fewer"
    );
    Err(ApiError::invalid(message))
}

/// Submits all generations of a request, or none of them.
async fn replies(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<Prompt>,
    settings: &Settings,
    steering: Steering,
) -> Result<Vec<Reply>, ApiError> {
    check_count(prompts.len(), settings, model)?;
    let best_of = settings.best_of as usize;
    let inputs = prompts.iter().map(|prompt| prompt.input.clone()).collect();
    if let Some(account) = &settings.account {
        account.check_tokens()?;
    }
    let (runner, request) = (&model.runner, settings.request.clone());
    let generations = runner.submit(request, steering, inputs, settings.best_of);
    let generations = generations.await?;
    let replies = generations
        .into_iter()
        .enumerate()
        .map(|(index, generation)| {
            let prompt = &prompts[index / best_of];
            if index % best_of == 0 {
                let tokens = prompt.input.tokens.len();
                let account = settings.account.as_deref();
                app.metrics.prompt(&served.id, tokens, account);
                note_prompt(account, &prompt.input.tokens, &model.facts().vocabulary);
            }
            let meter = app.metrics.meter(&served.id, settings.account.clone());
            let options = ReplyOptions {
                stop: settings.stop.clone(),
                with_tokens: settings.logprobs,
                echo: prompt.echo.clone(),
                reading: prompt.reading.clone(),
                recorder: prompt.goes_on.then(|| model.recorder(&prompt.input.tokens)),
            };
            Reply::new(generation, model.facts().vocabulary.clone(), options, meter)
        });
    Ok(replies.collect())
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
    use serde_json::json;

    use super::{
        super::{format::tests::answer, settings::tests::settings},
        *,
    };

    #[test]
    fn the_likeliest_answers_to_each_prompt_are_the_best() {
        let mut settings = settings(json!({"n": 2})).unwrap();
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
