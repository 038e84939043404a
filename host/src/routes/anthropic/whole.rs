//! Puts the events of an answer together.

use super::message::input;
use crate::anthropic::{BlockDelta, ContentBlock, Message, StreamEvent};

/// A message that grows with its events.
pub struct WholeMessage {
    message: Message,
    /// The arguments so far of the call that is the last block.
    arguments: String,
}

impl WholeMessage {
    /// A message that has just begun.
    pub fn new(message: Message) -> Self {
        Self {
            message,
            arguments: String::new(),
        }
    }

    /// Takes the next event.
    pub fn add(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::ContentBlockStart { content_block, .. } => {
                self.message.content.push(content_block);
            }
            StreamEvent::ContentBlockDelta { delta, .. } => self.grow(delta),
            StreamEvent::ContentBlockStop { .. } => self.end_block(),
            StreamEvent::MessageDelta { delta, usage } => {
                self.message.stop_reason = Some(delta.stop_reason);
                self.message.stop_sequence = delta.stop_sequence;
                self.message.usage = usage;
            }
            StreamEvent::MessageStart { .. } | StreamEvent::MessageStop | StreamEvent::Ping => {}
        }
    }

    /// The message of all events.
    pub fn finish(self) -> Message {
        self.message
    }

    fn grow(&mut self, delta: BlockDelta) {
        match (self.message.content.last_mut(), delta) {
            (Some(ContentBlock::Text { text }), BlockDelta::TextDelta { text: more }) => {
                *text += &more;
            }
            (
                Some(ContentBlock::Thinking { thinking, .. }),
                BlockDelta::ThinkingDelta { thinking: more },
            ) => *thinking += &more,
            (
                Some(ContentBlock::Thinking { signature, .. }),
                BlockDelta::SignatureDelta { signature: more },
            ) => *signature += &more,
            (Some(ContentBlock::ToolUse { .. }), BlockDelta::InputJsonDelta { partial_json }) => {
                self.arguments += &partial_json;
            }
            // A delta is of its block's kind.
            _ => {}
        }
    }

    fn end_block(&mut self) {
        if let Some(ContentBlock::ToolUse { input: members, .. }) = self.message.content.last_mut()
        {
            *members = input(&std::mem::take(&mut self.arguments));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            events::EventWriter,
            message::tests::{call, end, head},
        },
        *,
    };
    use crate::{
        engine::FinishReason,
        reply::{AnswerPiece, Delta},
    };

    fn whole(shows_thinking: bool, pieces: Vec<AnswerPiece>) -> Value {
        let mut whole = WholeMessage::new(head(shows_thinking).opening(0));
        let mut writer = EventWriter::new(head(shows_thinking));
        let end = Delta::End(end(FinishReason::Length, None));
        for delta in pieces.into_iter().map(Delta::Text).chain([end]) {
            writer
                .write(delta)
                .into_iter()
                .for_each(|event| whole.add(event));
        }
        serde_json::to_value(whole.finish()).unwrap()
    }

    fn text(text: &str) -> AnswerPiece {
        AnswerPiece {
            text: text.to_owned(),
            ..AnswerPiece::default()
        }
    }

    #[test]
    fn blocks_are_in_the_order_in_which_they_were_written() {
        let reasoning = || AnswerPiece {
            reasoning: "Hm.".to_owned(),
            ..AnswerPiece::default()
        };
        let first = AnswerPiece {
            calls: vec![call(0, Some("f"), "{\"a\"")],
            ..AnswerPiece::default()
        };
        let second = AnswerPiece {
            calls: vec![call(0, None, ": 1}"), call(1, Some("g"), "{")],
            ..AnswerPiece::default()
        };
        let pieces = || {
            let (first, second) = (first.clone(), second.clone());
            vec![reasoning(), text("We"), text("ll."), first, second]
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
        assert_eq!(whole(true, pieces()), expected);
        assert_eq!(whole(false, pieces())["content"][0]["thinking"], "");
        let kinds = |pieces| -> Vec<String> {
            let message = whole(true, pieces);
            let blocks = message["content"].as_array().unwrap().iter();
            blocks
                .map(|block| block["type"].as_str().unwrap().to_owned())
                .collect()
        };
        let again = vec![text("Well."), reasoning(), first.clone(), text("So.")];
        assert_eq!(kinds(again), ["text", "thinking", "tool_use", "text"]);
        assert_eq!(kinds(vec![]), [""; 0]);
    }
}
