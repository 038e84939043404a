use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    anthropic::{ContentBlock, Message, MessageEnd, OutputTokensDetails, Role, StopReason, Usage},
    engine::FinishReason,
    markup::CallBegin,
    reply::{AnswerPiece, End},
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

    /// Writes a whole answer.
    pub fn whole(&self, answer: AnswerPiece, end: &End) -> Message {
        let has_calls = !answer.calls.is_empty();
        let MessageEnd {
            stop_reason,
            stop_sequence,
        } = self.end(has_calls, end);
        Message {
            content: self.content(answer),
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: self.usage(end),
            ..self.opening()
        }
    }

    /// Writes an answer that has just begun.
    pub fn opening(&self) -> Message {
        Message {
            id: self.id.clone(),
            kind: "message",
            role: Role::Assistant,
            model: self.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: Usage {
                input_tokens: self.prompt_tokens,
                ..Usage::default()
            },
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
            input_tokens: self.prompt_tokens.saturating_sub(end.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: end.cached_tokens,
            output_tokens: end.completion_tokens,
            output_tokens_details: end.reasoning_tokens.map(details),
        }
    }

    fn content(&self, answer: AnswerPiece) -> Vec<ContentBlock> {
        let (reasoning, text) = (answer.reasoning, answer.text);
        let thinking = (!reasoning.is_empty()).then(|| ContentBlock::Thinking {
            thinking: if self.shows_thinking {
                reasoning
            } else {
                String::new()
            },
            signature: SIGNATURE.to_owned(),
        });
        let text = (!text.is_empty()).then_some(ContentBlock::Text { text });
        let calls = answer.calls.into_iter();
        let calls = calls.filter_map(|call| Some(tool_use(call.begin?, input(&call.arguments))));
        thinking.into_iter().chain(text).chain(calls).collect()
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

/// The arguments of a call as an object. They are not valid JSON if the answer was cut off within them.
fn input(arguments: &str) -> Map<String, Value> {
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

    fn whole(answer: AnswerPiece, end: &End) -> Value {
        serde_json::to_value(head(true).whole(answer, end)).unwrap()
    }

    #[test]
    fn a_whole_answer_has_its_blocks_in_order() {
        let answer = AnswerPiece {
            reasoning: "Hm.".to_owned(),
            text: "Well.".to_owned(),
            calls: vec![call(0, Some("f"), "{\"a\": 1}"), call(1, Some("g"), "{")],
            tokens: None,
        };
        let expected = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "unsigned"},
                {"type": "text", "text": "Well."},
                {"type": "tool_use", "id": "toolu_0", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "toolu_1", "name": "g", "input": {"INVALID_JSON": "{"}},
            ],
            "stop_reason": "max_tokens", "stop_sequence": null,
            "usage": {
                "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2},
            },
        });
        let end = end(FinishReason::Length, None);
        assert_eq!(whole(answer.clone(), &end), expected);
        let hidden = serde_json::to_value(head(false).whole(answer, &end)).unwrap();
        assert_eq!(hidden["content"][0]["thinking"], "");
        let silent = whole(AnswerPiece::default(), &end);
        assert_eq!(silent["content"], json!([]));
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
