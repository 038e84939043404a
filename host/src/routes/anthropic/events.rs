use std::mem::take;

use serde_json::Map;

use super::message::{AnswerHead, SIGNATURE, tool_use};
use crate::{
    anthropic::{BlockDelta, ContentBlock, StreamEvent},
    markup::CallPiece,
    reply::{AnswerPiece, Delta, End},
};

/// Writes the events of one answer. Blocks begin and end where the kind of content changes.
pub struct EventWriter {
    head: AnswerHead,
    /// The kind of the open block.
    open: Option<BlockKind>,
    /// Index of the open block, or of the next one.
    index: u32,
    has_calls: bool,
    /// Events that are not sent yet.
    ready: Vec<StreamEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    Thinking,
    Text,
    ToolUse,
}

impl EventWriter {
    /// A writer at the beginning of an answer.
    pub fn new(head: AnswerHead) -> Self {
        Self {
            head,
            open: None,
            index: 0,
            has_calls: false,
            ready: Vec::new(),
        }
    }

    /// The first event. `cached_tokens` is the length of the prompt's cached prefix.
    pub fn opening(&self, cached_tokens: u32) -> StreamEvent {
        StreamEvent::MessageStart {
            message: self.head.opening(cached_tokens),
        }
    }

    /// Writes the events of a piece or of the end.
    pub fn write(&mut self, delta: Delta) -> Vec<StreamEvent> {
        match delta {
            Delta::Text(piece) => self.piece(piece),
            Delta::End(end) => self.end(&end),
        }
        take(&mut self.ready)
    }

    fn piece(&mut self, piece: AnswerPiece) {
        let mut calls = piece.calls.into_iter().peekable();
        // The rest of a call that has begun comes before anything new.
        if let Some(rest) = calls.next_if(|call| call.begin.is_none()) {
            self.arguments(rest.arguments);
        }
        if !piece.reasoning.is_empty() {
            self.thinking(piece.reasoning);
        }
        if !piece.text.is_empty() {
            self.text(piece.text);
        }
        calls.for_each(|call| self.call(call));
    }

    fn thinking(&mut self, thinking: String) {
        self.enter(BlockKind::Thinking, || ContentBlock::Thinking {
            thinking: String::new(),
            signature: String::new(),
        });
        if self.head.shows_thinking {
            self.grow(BlockDelta::ThinkingDelta { thinking });
        }
    }

    fn text(&mut self, text: String) {
        self.enter(BlockKind::Text, || ContentBlock::Text {
            text: String::new(),
        });
        self.grow(BlockDelta::TextDelta { text });
    }

    fn call(&mut self, call: CallPiece) {
        if let Some(begin) = call.begin {
            self.has_calls = true;
            self.close();
            self.enter(BlockKind::ToolUse, || tool_use(begin, Map::new()));
        }
        self.arguments(call.arguments);
    }

    fn arguments(&mut self, partial_json: String) {
        if !partial_json.is_empty() {
            self.grow(BlockDelta::InputJsonDelta { partial_json });
        }
    }

    fn end(&mut self, end: &End) {
        self.close();
        let delta = self.head.end(self.has_calls, end);
        let usage = self.head.usage(end);
        self.ready.push(StreamEvent::MessageDelta { delta, usage });
        self.ready.push(StreamEvent::MessageStop);
    }

    /// Begins a block, unless one of this kind is open.
    fn enter(&mut self, kind: BlockKind, block: impl FnOnce() -> ContentBlock) {
        if self.open == Some(kind) {
            return;
        }
        self.close();
        self.open = Some(kind);
        self.ready.push(StreamEvent::ContentBlockStart {
            index: self.index,
            content_block: block(),
        });
    }

    fn grow(&mut self, delta: BlockDelta) {
        let index = self.index;
        self.ready
            .push(StreamEvent::ContentBlockDelta { index, delta });
    }

    /// Ends the open block.
    fn close(&mut self) {
        let Some(kind) = self.open.take() else { return };
        if kind == BlockKind::Thinking {
            let signature = SIGNATURE.to_owned();
            self.grow(BlockDelta::SignatureDelta { signature });
        }
        let index = self.index;
        self.ready.push(StreamEvent::ContentBlockStop { index });
        self.index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::tests::{call, end, head},
        *,
    };
    use crate::engine::FinishReason;

    fn reasoning(text: &str) -> AnswerPiece {
        AnswerPiece {
            reasoning: text.to_owned(),
            ..AnswerPiece::default()
        }
    }

    fn text(text: &str) -> AnswerPiece {
        AnswerPiece {
            text: text.to_owned(),
            ..AnswerPiece::default()
        }
    }

    fn calls(calls: Vec<CallPiece>) -> AnswerPiece {
        AnswerPiece {
            calls,
            ..AnswerPiece::default()
        }
    }

    /// The events of these pieces and the end, each in a short form.
    fn written(shows_thinking: bool, pieces: Vec<AnswerPiece>) -> Vec<String> {
        let mut writer = EventWriter::new(head(shows_thinking));
        let end = Delta::End(end(FinishReason::Stop, None));
        let deltas = pieces.into_iter().map(Delta::Text).chain([end]);
        let events = deltas.flat_map(|delta| writer.write(delta));
        events.map(|event| short(&event)).collect()
    }

    fn short(event: &StreamEvent) -> String {
        let value = serde_json::to_value(event).unwrap();
        assert_eq!(value["type"], event.name());
        let index = &value["index"];
        match event {
            StreamEvent::ContentBlockStart { .. } => {
                format!("{index} + {}", value["content_block"])
            }
            StreamEvent::ContentBlockDelta { .. } => format!("{index} {}", value["delta"]),
            StreamEvent::ContentBlockStop { .. } => format!("{index} ."),
            StreamEvent::MessageDelta { .. } => value["delta"]["stop_reason"].to_string(),
            _ => event.name().to_owned(),
        }
    }

    #[test]
    fn blocks_begin_and_end_where_the_kind_changes() {
        let events = written(
            true,
            vec![
                reasoning("Hm"),
                reasoning("."),
                AnswerPiece {
                    reasoning: "!".to_owned(),
                    ..text("We")
                },
                text("ll."),
                calls(vec![call(0, Some("f"), "")]),
                calls(vec![call(0, None, "{\"a\""), call(1, Some("f"), "")]),
                calls(vec![call(1, None, "{}")]),
            ],
        );
        let expected = [
            r#"0 + {"type":"thinking","thinking":"","signature":""}"#,
            r#"0 {"type":"thinking_delta","thinking":"Hm"}"#,
            r#"0 {"type":"thinking_delta","thinking":"."}"#,
            r#"0 {"type":"thinking_delta","thinking":"!"}"#,
            r#"0 {"type":"signature_delta","signature":"unsigned"}"#,
            "0 .",
            r#"1 + {"type":"text","text":""}"#,
            r#"1 {"type":"text_delta","text":"We"}"#,
            r#"1 {"type":"text_delta","text":"ll."}"#,
            "1 .",
            r#"2 + {"type":"tool_use","id":"toolu_0","name":"f","input":{}}"#,
            r#"2 {"type":"input_json_delta","partial_json":"{\"a\""}"#,
            "2 .",
            r#"3 + {"type":"tool_use","id":"toolu_1","name":"f","input":{}}"#,
            r#"3 {"type":"input_json_delta","partial_json":"{}"}"#,
            "3 .",
            r#""tool_use""#,
            "message_stop",
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn the_rest_of_a_call_comes_before_the_text_behind_it() {
        let piece = AnswerPiece {
            calls: vec![call(0, None, "}")],
            ..text("So.")
        };
        let events = written(true, vec![calls(vec![call(0, Some("f"), "{")]), piece]);
        let kinds: Vec<_> = events.iter().map(|event| &event[..3]).collect();
        assert_eq!(
            kinds,
            [
                "0 +", "0 {", "0 {", "0 .", "1 +", "1 {", "1 .", "\"to", "mes"
            ]
        );
    }

    #[test]
    fn reasoning_that_is_omitted_leaves_an_empty_block() {
        let events = written(false, vec![reasoning("Hm."), reasoning("Hm.")]);
        let expected = [
            r#"0 + {"type":"thinking","thinking":"","signature":""}"#,
            r#"0 {"type":"signature_delta","signature":"unsigned"}"#,
            "0 .",
            r#""end_turn""#,
            "message_stop",
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn an_answer_that_says_nothing_has_no_blocks() {
        assert_eq!(written(true, vec![]), [r#""end_turn""#, "message_stop"]);
    }
}
