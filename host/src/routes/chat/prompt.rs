//! The prompt of a chat, and how the answers to it are constrained and read.

use std::sync::Arc;

use super::{
    super::{
        blocking::blocking,
        generation::{AnswerGrammar, ReadyPrompt, WantedGrammar},
    },
    grammar::grammar,
    tools::Calling,
};
use crate::{
    error::ApiError,
    markup::{CallRules, Reasoning},
    models::{ChatPrompt, LoadedModel},
    prompt::RenderRequest,
    reply::Reading,
};

/// Renders and encodes a chat. With `recalls`, earlier answers keep the tokens that the model generated for them.
pub async fn encode(
    model: &Arc<LoadedModel>,
    chat: RenderRequest,
    recalls: bool,
) -> Result<ChatPrompt, ApiError> {
    let encoder = model.clone();
    blocking(move || encoder.encode_chat(&chat, recalls)).await
}

/// Adds to an encoded chat how its answers are read, and compiles their grammar. `goes_on`: later prompts may continue the
/// answers.
pub async fn prompt(
    model: &LoadedModel,
    encoded: ChatPrompt,
    calling: Option<Calling>,
    wanted: Option<WantedGrammar>,
    goes_on: bool,
) -> Result<(ReadyPrompt, Option<AnswerGrammar>), ApiError> {
    let reasoning = model.reasoning_tags().map(|tags| Reasoning {
        tags: tags.clone(),
        in_prompt: encoded.reasoning,
    });
    let grammar = grammar(model, calling.as_ref(), reasoning.clone(), wanted).await?;
    let capabilities = model.capabilities()?;
    let calls = match calling {
        Some(calling) => Some(calling.rules(capabilities)),
        None => CallRules::of_marked_text(capabilities.tool_format),
    };
    let prompt = ReadyPrompt {
        input: encoded.input,
        echo: None,
        goes_on,
        reading: Reading {
            reasoning,
            calls,
            marks: model.marks().clone(),
        },
    };
    Ok((prompt, grammar))
}
