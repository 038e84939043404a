//! From a prompt to an answer.

use super::{
    super::blocking::blocking, dry::DrySettings, grammar::AnswerGrammar,
    reasoning_budget::reasoning_budget, settings::Settings, tally::Tally, warnings::Warnings,
};
use crate::{
    app::App,
    engine::{DryOptions, PromptTokens},
    error::ApiError,
    models::{LoadedModel, ServedModel},
    reply::{Echo, Reading, Reply, ReplyOptions, note_prompt},
    runner::Steering,
};

/// A prompt that is ready for the model.
#[derive(Default)]
pub struct ReadyPrompt {
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

/// Begins to generate the answers to these prompts.
pub async fn begin(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<ReadyPrompt>,
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
        // A request with a budget has one prompt.
        reasoning: match &prompts[..] {
            [prompt] => reasoning_budget(model, &prompt.reading, settings).await?,
            _ => None,
        },
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
    prompts: Vec<ReadyPrompt>,
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
