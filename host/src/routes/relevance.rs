//! How relevant texts are to queries, as a model that can chat judges it: by the probability that it answers `yes` rather than
//! `no`. The question is that which Qwen3-Reranker was trained with.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};
use serde_json::{Map, json};
use tenon_plugin_api::{EncodeFlags, SampleParams, TokenBias};

use super::blocking::blocking;
use crate::{
    app::App,
    engine::{ClientId, Event, PromptTokens, Request, Scoring},
    error::ApiError,
    layers::client::Client,
    models::{LoadedModel, PromptError, ServedModel},
    openai::EmbeddingUsage,
    prompt::{Encoder, RenderRequest},
    runner::Steering,
};

/// Most pairs of texts in a request.
pub const MAX_PAIRS: usize = 1000;

const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".";
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";
/// A logit bias that makes a token the most likely one. Log-probabilities do not change with it.
const CERTAIN: f32 = 1e6;

/// Texts to judge, and who wants to know.
pub struct Question {
    pub client: Client,
    /// The time by which the answer has to be complete. None without a limit.
    pub deadline: Option<Instant>,
    /// What makes a text relevant. None: it answers a web search.
    pub instruction: Option<String>,
    /// Queries, each with a text that may be relevant to it.
    pub pairs: Vec<(String, String)>,
}

/// How relevant the texts are, from 0 to 1, and how many tokens were read for that.
pub struct Relevance {
    pub scores: Vec<f32>,
    pub usage: EmbeddingUsage,
}

/// Judges texts with a model. Texts with the same query share what the model computes for it.
///
/// # Errors
/// The model cannot chat, always reasons before it answers, or does not have `yes` and `no` as tokens.
pub async fn relevance(
    app: &App,
    served: &ServedModel,
    model: &Arc<LoadedModel>,
    question: Question,
) -> Result<Relevance, ApiError> {
    let encoder = model.clone();
    let (client, deadline) = (question.client.clone(), question.deadline);
    let cannot = |why: &str| {
        let message = format!("the model '{}' cannot judge texts: {why}", served.id);
        ApiError::unsupported("model", message)
    };
    if let Some(why) = model.why_no_chat() {
        return Err(cannot(why));
    }
    let encoded = blocking(move || encode(&encoder, question)).await?;
    let (prompts, answers) = match encoded {
        Ok(encoded) => encoded,
        Err(why) => return Err(cannot(why)),
    };
    let account = client.account.as_deref();
    if let Some(account) = account {
        account.check_tokens()?;
    }
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.tokens.len()).collect();
    let score = |prompt: PromptTokens| async move {
        let logprob = |token| logprob(model, request(client.id, deadline, token), prompt.clone());
        let [yes, no] = answers;
        let (yes, no) = try_join(logprob(yes), logprob(no)).await?;
        Ok::<_, ApiError>(1.0 / (1.0 + (no - yes).exp()))
    };
    // A pair needs two sequences. More pairs at once would only wait.
    let at_once = (model.facts().granted.max_sequences as usize / 2).max(1);
    let scores = stream::iter(prompts).map(score).buffered(at_once);
    let scores = scores.try_collect().await?;
    for &length in &lengths {
        app.metrics.prompt(&served.id, length, account);
    }
    let tokens = lengths.iter().sum();
    let usage = EmbeddingUsage {
        prompt_tokens: tokens,
        total_tokens: tokens,
    };
    Ok(Relevance { scores, usage })
}

/// The prompts, and the tokens of `yes` and `no`. An inner error says why the model cannot judge texts.
type Encoded = Result<(Vec<PromptTokens>, [u32; 2]), &'static str>;

fn encode(model: &LoadedModel, question: Question) -> Result<Encoded, PromptError> {
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
        if prompt.opens_reasoning {
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

/// A request whose answer is this token.
fn request(client: ClientId, deadline: Option<Instant>, token: u32) -> Request {
    let bias = CERTAIN;
    Request {
        client,
        priority: 0,
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
