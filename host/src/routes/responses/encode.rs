//! Encodes the conversation of a request. If the request allows it, a conversation that is longer than the context loses its
//! oldest messages.

use std::sync::Arc;

use serde_json::Value;

use super::super::blocking::blocking;
use crate::{
    error::ApiError,
    models::{ChatPrompt, LoadedModel, PromptError},
    openai::responses::Truncation,
    prompt::{RenderRequest, TemplateError},
};

/// How a conversation is encoded.
#[derive(Clone, Copy)]
pub struct Encoding {
    pub truncation: Truncation,
    /// Tokens of the context that a truncated conversation leaves to the answer. None: an eighth of the context.
    pub room: Option<u32>,
    /// Whether earlier answers keep the tokens that the model generated for them.
    pub recalls: bool,
}

/// Encodes a conversation. Also returns how many of its oldest messages were left out.
pub async fn encode(
    model: &Arc<LoadedModel>,
    chat: RenderRequest,
    encoding: Encoding,
) -> Result<(ChatPrompt, usize), ApiError> {
    let encoder = model.clone();
    blocking(move || fitting(&encoder, chat, encoding).map_err(of_input)).await
}

/// Converts an error. An error of the chat template is about the conversation, which is the request's `input`.
fn of_input(error: PromptError) -> ApiError {
    match error {
        PromptError::Template(TemplateError::Syntax(_)) => error.into(),
        PromptError::Template(_) => ApiError::invalid_parameter("input", error.to_string()),
        error => error.into(),
    }
}

fn fitting(
    model: &LoadedModel,
    chat: RenderRequest,
    encoding: Encoding,
) -> Result<(ChatPrompt, usize), PromptError> {
    let context = model.facts().context_length();
    let encode = |chat: &RenderRequest, room| {
        fitted(
            model.encode_chat(chat, encoding.recalls),
            context.saturating_sub(room),
        )
    };
    let whole = match encode(&chat, 1)? {
        Fitted::Yes(prompt) => return Ok((prompt, 0)),
        Fitted::No(whole) => whole,
    };
    let room = encoding.room.unwrap_or(context / 8).min(context / 2).max(1);
    let found = match encoding.truncation {
        Truncation::Disabled => None,
        Truncation::Auto => longest_rest(&chat, |rest| encode(rest, room))?,
    };
    found.map_or_else(|| whole.map(|whole| (whole, 0)), Ok)
}

/// Whether a prompt fits into the context.
enum Fitted {
    Yes(ChatPrompt),
    No(Result<ChatPrompt, PromptError>),
}

/// Checks the length of a prompt. Other errors are returned.
fn fitted(encoded: Result<ChatPrompt, PromptError>, most: u32) -> Result<Fitted, PromptError> {
    match encoded {
        Ok(prompt) if prompt.input.tokens.len() <= most as usize => Ok(Fitted::Yes(prompt)),
        encoded @ (Ok(_) | Err(PromptError::TooLong { .. })) => Ok(Fitted::No(encoded)),
        Err(error) => Err(error),
    }
}

/// Finds the longest rest of a conversation that fits, by bisection. None if no rest fits.
fn longest_rest(
    chat: &RenderRequest,
    encode: impl Fn(&RenderRequest) -> Result<Fitted, PromptError>,
) -> Result<Option<(ChatPrompt, usize)>, PromptError> {
    let (lead, cuts) = cuts(&chat.messages);
    let (mut first, mut end) = (0, cuts.len());
    let mut found = None;
    while first < end {
        let middle = first.midpoint(end);
        let mut rest = chat.clone();
        rest.messages.drain(lead..cuts[middle]);
        match encode(&rest)? {
            Fitted::Yes(prompt) => {
                found = Some((prompt, cuts[middle] - lead));
                end = middle;
            }
            Fitted::No(_) => first = middle + 1,
        }
    }
    Ok(found)
}

/// The number of system messages at the beginning, which always stay, and the indexes where the rest of a conversation may begin:
/// at any later message but a tool's, which needs the call before it.
fn cuts(messages: &[Value]) -> (usize, Vec<usize>) {
    let is_system =
        |message: &&Value| message["role"] == "system" || message["role"] == "developer";
    let lead = messages.iter().take_while(is_system).count();
    let cuts = (lead + 1..messages.len()).filter(|&at| messages[at]["role"] != "tool");
    (lead, cuts.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{engine::PromptTokens, markup::InPrompt};

    fn messages(roles: &[&str]) -> Vec<Value> {
        roles.iter().map(|role| json!({"role": role})).collect()
    }

    #[test]
    fn system_messages_stay_and_results_go_with_their_calls() {
        let roles = [
            "system",
            "developer",
            "user",
            "assistant",
            "tool",
            "tool",
            "system",
            "user",
        ];
        assert_eq!(cuts(&messages(&roles)), (2, vec![3, 6, 7]));
        assert_eq!(cuts(&messages(&["user"])), (0, vec![]));
    }

    /// A conversation whose messages have this many tokens each.
    fn longest(lengths: &[usize], most: u32) -> Option<usize> {
        let message = |length: &usize| json!({"role": "user", "length": length});
        let chat = RenderRequest {
            messages: lengths.iter().map(message).collect(),
            ..RenderRequest::default()
        };
        let encode = |chat: &RenderRequest| {
            let lengths = chat
                .messages
                .iter()
                .map(|message| message["length"].as_u64().unwrap());
            let tokens = vec![0; lengths.sum::<u64>() as usize];
            let prompt = ChatPrompt {
                input: PromptTokens::new(tokens),
                reasoning: InPrompt::Nothing,
            };
            fitted(Ok(prompt), most)
        };
        longest_rest(&chat, encode)
            .unwrap()
            .map(|(_, left_out)| left_out)
    }

    #[test]
    fn no_more_is_left_out_than_must_be() {
        assert_eq!(longest(&[5, 1, 1, 1], 3), Some(1));
        assert_eq!(longest(&[1, 5, 1, 1], 3), Some(2));
        assert_eq!(longest(&[1, 1, 1, 3], 3), Some(3));
        assert_eq!(longest(&[1, 1, 4], 3), None);
        assert_eq!(longest(&[4], 3), None);
    }
}
