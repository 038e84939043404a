//! Relevance judged by a model that can chat: the probability that it answers `yes` rather than `no`. The question has the words
//! that Qwen3-Reranker was trained with.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};
use serde_json::{Map, json};
use tenon_plugin_api::{EncodeFlags, SampleParams, TokenBias};

use super::judge::{Judge, RelevanceRequest, Scores};
use crate::{
    engine::{Event, PromptTokens, Request, Scoring},
    error::ApiError,
    layers::client::Client,
    markup::InPrompt,
    models::{LoadedModel, PromptError},
    prompt::{Encoder, RenderRequest},
    reply::note_prompt,
    routes::blocking::blocking,
    runner::Steering,
};

const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".";
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";
/// A logit bias that makes a token the most likely one. Log-probabilities do not change with it.
const CERTAIN: f32 = 1e6;

/// Judges texts with a model that can chat. Prompts with the same query share a cached prefix.
///
/// # Errors
/// The model cannot chat, always reasons before it answers, or does not have `yes` and `no` as tokens.
pub async fn scores(judge: Judge<'_>, question: RelevanceRequest) -> Result<Scores, ApiError> {
    let (model, client) = (judge.model, question.client.clone());
    let limit = judge.app.now().config.server.request_timeout;
    let deadline = question.arrival.deadline(limit);
    if let Some(why) = model.why_no_chat() {
        return Err(judge.cannot(why));
    }
    let encoder = model.clone();
    let encoded = blocking(move || encode(&encoder, question)).await?;
    let (prompts, answers) = encoded.map_err(|why| judge.cannot(why))?;
    if let Some(account) = &client.account {
        account.check_tokens()?;
    }
    let lengths = prompts.iter().map(|prompt| prompt.tokens.len()).collect();
    let client = &client;
    for prompt in &prompts {
        let vocabulary = &model.facts().vocabulary;
        note_prompt(client.account.as_deref(), &prompt.tokens, vocabulary);
    }
    let score = |prompt: PromptTokens| async move {
        let logprob = |token| logprob(model, request(client, deadline, token), prompt.clone());
        let [yes, no] = answers;
        let (yes, no) = try_join(logprob(yes), logprob(no)).await?;
        Ok::<_, ApiError>(probability(yes, no))
    };
    // A pair needs two sequences. More pairs at once would only wait.
    let at_once = (model.facts().granted.max_sequences as usize / 2).max(1);
    let scores = stream::iter(prompts).map(score).buffered(at_once);
    Ok((scores.try_collect().await?, lengths))
}

/// The prompts, and the tokens of `yes` and `no`. An inner error says why the model cannot judge texts.
type Encoded = Result<(Vec<PromptTokens>, [u32; 2]), &'static str>;

fn encode(model: &LoadedModel, question: RelevanceRequest) -> Result<Encoded, PromptError> {
    let token = |text| -> Result<Option<u32>, PromptError> {
        match model.runner.encode(text, EncodeFlags::NONE)?[..] {
            [token] => Ok(Some(token)),
            _ => Ok(None),
        }
    };
    let (Some(yes), Some(no)) = (token("yes")?, token("no")?) else {
        return Ok(Err("it does not have 'yes' and 'no' as tokens"));
    };
    let instruction = question.instruction.as_deref().unwrap_or(INSTRUCTION);
    let mut prompts = Vec::new();
    for (query, text) in &question.pairs {
        let prompt = model.encode_chat(&chat(instruction, query, text), false)?;
        if prompt.reasoning == InPrompt::Opened {
            return Ok(Err("it always reasons before it answers"));
        }
        prompts.push(prompt.input);
    }
    Ok(Ok((prompts, [yes, no])))
}

fn chat(instruction: &str, query: &str, text: &str) -> RenderRequest {
    let content = format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {text}");
    RenderRequest {
        messages: vec![
            json!({"role": "system", "content": SYSTEM}),
            json!({"role": "user", "content": content}),
        ],
        variables: Map::from_iter([("enable_thinking".to_owned(), json!(false))]),
        ..RenderRequest::default()
    }
}

/// A request whose logit bias makes this token the answer, so that its log-probability is reported.
fn request(client: &Client, deadline: Option<Instant>, token: u32) -> Request {
    let bias = CERTAIN;
    Request {
        client: client.id,
        priority: client.priority(None),
        deadline,
        cache_prompt: true,
        max_tokens: 1,
        min_tokens: 0,
        params: SampleParams::default(),
        seed: 0,
        bias: vec![TokenBias { token, bias }],
        scoring: Some(Scoring {
            top: 0,
            prompt: false,
        }),
    }
}

/// The probability of `yes` rather than `no`, by their log-probabilities. Both may be impossible.
fn probability(yes: f32, no: f32) -> f32 {
    match yes == no {
        true => 0.5,
        false => 1.0 / (1.0 + (no - yes).exp()),
    }
}

/// The log-probability of the first token of an answer.
async fn logprob(
    model: &LoadedModel,
    request: Request,
    prompt: PromptTokens,
) -> Result<f32, ApiError> {
    let (request, steering) = (Arc::new(request), Steering::default());
    let generations = model.runner.submit(request, steering, vec![prompt], 1);
    for mut generation in generations.await? {
        while let Some(event) = generation.next().await {
            match event {
                Event::Token { logprobs, .. } => {
                    return Ok(logprobs.map_or(f32::NEG_INFINITY, |scored| scored.logprob));
                }
                Event::Failed(failure) => return Err(failure.into()),
                Event::Started { .. } | Event::Scored(_) | Event::Finished { .. } => {}
            }
        }
    }
    Err(ApiError::cut_off())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_probability_whatever_is_impossible() {
        let never = f32::NEG_INFINITY;
        for (yes, no, expected) in [
            (never, never, 0.5),
            (-1.0, never, 1.0),
            (never, -1.0, 0.0),
            (-2.0, -2.0, 0.5),
        ] {
            assert_eq!(probability(yes, no), expected);
        }
        assert!(probability(-0.1, -3.0) > 0.9);
    }
}
