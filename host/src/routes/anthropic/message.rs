use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    anthropic::{ContentBlock, Message, MessageEnd, OutputTokensDetails, Role, StopReason, Usage},
    engine::FinishReason,
    markup::CallBegin,
    reply::End,
};

/// The signature of all reasoning. The server takes reasoning back without checking it.
pub const SIGNATURE: &str = "unsigned";
/// The key for a call's arguments that are no JSON object, as Anthropic's documentation recommends it.
const INVALID_JSON: &str = "INVALID_JSON";

/// The part of an answer that is known before it begins.
pub struct AnswerHead {
    pub id: String,
    model: String,
    prompt_tokens: u32,
    stop_sequences: Vec<String>,
    /// Whether the answer shows its reasoning.
    pub shows_thinking: bool,
}

impl AnswerHead {
    /// The head of a new answer by the model of this name.
    pub fn new(
        model: &str,
        prompt_tokens: usize,
        stop_sequences: Vec<String>,
        shows_thinking: bool,
    ) -> Self {
        Self {
            id: format!("msg_{}", Uuid::new_v4().simple()),
            model: model.to_owned(),
            prompt_tokens: prompt_tokens as u32,
            stop_sequences,
            shows_thinking,
        }
    }

    /// Writes an answer that has just begun. `cached_tokens` is the length of the prompt's cached prefix.
    pub fn opening(&self, cached_tokens: u32) -> Message {
        Message {
            id: self.id.clone(),
            kind: "message",
            role: Role::Assistant,
            model: self.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: self.prompt_usage(cached_tokens),
        }
    }

    /// Writes how an answer ended. An answer with tool calls has the reason `tool_use`, unless a limit or a stop sequence ended it.
    pub fn end(&self, has_calls: bool, end: &End) -> MessageEnd {
        let stop = end.stop.and_then(|index| self.stop_sequences.get(index));
        MessageEnd {
            stop_reason: match end.reason {
                FinishReason::Length => StopReason::MaxTokens,
                FinishReason::Stop if stop.is_some() => StopReason::StopSequence,
                FinishReason::Stop if has_calls => StopReason::ToolUse,
                FinishReason::Stop => StopReason::EndTurn,
            },
            stop_sequence: stop.cloned(),
        }
    }

    /// Writes how many tokens an answer took.
    pub fn usage(&self, end: &End) -> Usage {
        let details = |thinking_tokens| OutputTokensDetails { thinking_tokens };
        Usage {
            output_tokens: end.completion_tokens,
            output_tokens_details: end.reasoning_tokens.map(details),
            ..self.prompt_usage(end.cached_tokens)
        }
    }

    fn prompt_usage(&self, cached_tokens: u32) -> Usage {
        Usage {
            input_tokens: self.prompt_tokens.saturating_sub(cached_tokens),
            cache_read_input_tokens: cached_tokens,
            ..Usage::default()
        }
    }
}

/// Writes a tool call.
pub fn tool_use(begin: CallBegin, input: Map<String, Value>) -> ContentBlock {
    let unique = begin.id.trim_start_matches("call_");
    ContentBlock::ToolUse {
        id: format!("toolu_{unique}"),
        name: begin.name,
        input,
    }
}

/// The arguments of a call as an object. They are no JSON if the answer was cut off within them.
pub fn input(arguments: &str) -> Map<String, Value> {
    let invalid = |_| Map::from_iter([(INVALID_JSON.to_owned(), json!(arguments))]);
    serde_json::from_str(arguments).unwrap_or_else(invalid)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::markup::CallPiece;

    pub fn head(shows_thinking: bool) -> AnswerHead {
        let stops = vec!["A".to_owned(), "B".to_owned()];
        AnswerHead {
            id: "msg_1".to_owned(),
            ..AnswerHead::new("m", 10, stops, shows_thinking)
        }
    }

    pub fn end(reason: FinishReason, stop: Option<usize>) -> End {
        End {
            reason,
            stop,
            completion_tokens: 5,
            cached_tokens: 4,
            reasoning_tokens: Some(2),
            ends_with_calls: false,
            mean_logprob: 0.0,
        }
    }

    pub fn call(index: u32, name: Option<&str>, arguments: &str) -> CallPiece {
        CallPiece {
            index,
            begin: name.map(|name| CallBegin {
                id: format!("call_{index}"),
                name: name.to_owned(),
            }),
            arguments: arguments.to_owned(),
        }
    }

    #[test]
    fn each_end_has_its_reason() {
        let (stop, length) = (FinishReason::Stop, FinishReason::Length);
        for (has_calls, end, reason, sequence) in [
            (false, end(stop, None), "end_turn", json!(null)),
            (true, end(stop, None), "tool_use", json!(null)),
            (true, end(stop, Some(1)), "stop_sequence", json!("B")),
            (true, end(length, None), "max_tokens", json!(null)),
        ] {
            let written = serde_json::to_value(head(true).end(has_calls, &end)).unwrap();
            let expected = json!({"stop_reason": reason, "stop_sequence": sequence});
            assert_eq!(written, expected);
        }
    }
}
