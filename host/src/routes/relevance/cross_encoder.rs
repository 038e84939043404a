//! Relevance by a model that reads a query and a document together and has one output.

use super::judge::{Judge, RelevanceRequest, Scores};
use crate::{engine::Failure, error::ApiError, reply::note_prompt, routes::blocking::blocking};

/// Judges pairs of texts.
pub async fn scores(judge: Judge<'_>, question: RelevanceRequest) -> Result<Scores, ApiError> {
    if question.instruction.is_some() {
        let message = format!(
            "the model '{}' is a cross-encoder, which takes no instruction: leave 'instruction' out",
            judge.served.id
        );
        return Err(ApiError::unsupported("instruction", message));
    }
    let (encoder, pairs) = (judge.model.clone(), question.pairs);
    let encoded = blocking(move || encoder.encode_pairs(&pairs)).await?;
    let texts = encoded.ok_or_else(|| judge.cannot("it was loaded anew as another model"))?;
    check_lengths(judge, &texts)?;
    if let Some(account) = &question.client.account {
        account.check_tokens()?;
    }
    let lengths = texts.iter().map(Vec::len).collect();
    for text in &texts {
        let vocabulary = &judge.model.facts().vocabulary;
        note_prompt(question.client.account.as_deref(), text, vocabulary);
    }
    let limit = judge.app.now().config.server.request_timeout;
    let scores = tokio::select! {
        biased;
        scores = judge.model.runner.embed(question.client.id, texts) => scores?,
        () = question.arrival.overdue(limit) => return Err(Failure::Overdue.into()),
    };
    Ok((scores, lengths))
}

fn check_lengths(judge: Judge<'_>, texts: &[Vec<u32>]) -> Result<(), ApiError> {
    let facts = judge.model.facts();
    let most = facts
        .embedder
        .as_ref()
        .map_or(0, |embedder| facts.longest_embedded(embedder));
    let too_long = |text: &&Vec<u32>| text.len() > most as usize;
    match texts.iter().enumerate().find(|(_, text)| too_long(text)) {
        Some((index, text)) => Err(ApiError::context_length_exceeded(format!(
            "document {index} has {} tokens with its query, but the context is {most} tokens long: shorten it or split it",
            text.len()
        ))),
        None => Ok(()),
    }
}
