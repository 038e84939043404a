//! The budget of an answer's reasoning, with the tokens that the engine needs.

use tenon_plugin_api::EncodeFlags;

use super::{super::blocking::blocking, settings::Settings};
use crate::{
    error::ApiError,
    models::{LoadedModel, PromptError},
    reasoning_budget::ReasoningBudget,
    reply::Reading,
};

/// The budget of an answer's reasoning. None if there is no limit, or if the model does not reason.
///
/// # Errors
/// The tokenizer cannot encode the closing tag.
pub async fn reasoning_budget(
    model: &LoadedModel,
    reading: &Reading,
    settings: &Settings,
) -> Result<Option<ReasoningBudget>, ApiError> {
    let Some((tokens, reasoning)) = settings.reasoning_budget.zip(reading.reasoning.clone()) else {
        return Ok(None);
    };
    let tags = &reasoning.tags;
    let behind = [tags.frame.turn, tags.frame.answer].concat();
    Ok(Some(ReasoningBudget {
        tokens,
        marks: reading.marks.clone(),
        close: encode(model, &tags.close).await?,
        behind: encode(model, &behind).await?,
        reasoning,
    }))
}

/// The tokens of a text around reasoning, as a model writes it within an answer.
async fn encode(model: &LoadedModel, text: &str) -> Result<Vec<u32>, ApiError> {
    let (runner, owned) = (model.runner.clone(), text.to_owned());
    let flags = EncodeFlags::PARSE_CONTROL | EncodeFlags::CONTINUATION;
    let tokens = blocking(move || {
        let tokens = runner.tokenize(vec![(owned, flags)]);
        tokens
            .map(|tokens| tokens.concat())
            .map_err(PromptError::from)
    });
    let (tokens, vocabulary) = (tokens.await?, model.facts().vocabulary.clone());
    let bytes = tokens.iter().map(|&token| vocabulary.bytes(token));
    match bytes.collect::<Vec<_>>().concat() == text.as_bytes() {
        true => Ok(tokens),
        // Forced tokens that do not close reasoning would be forced for ever.
        false => Err(ApiError::invalid(format!(
            "this model's reasoning can have no budget: its tokenizer does not encode '{text}' as it is"
        ))),
    }
}
