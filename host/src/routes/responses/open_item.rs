//! The item that the model is writing, and its events.

use uuid::Uuid;

use super::{
    custom_input::InputReader, events::UnsentEvents, messages::encrypted, tools::ToolName,
};
use crate::openai::{
    ChatTokenLogprob,
    responses::{
        CallArgumentsDelta, CallArgumentsDone, CustomInputDone, ItemEvent, ItemStatus,
        OutputCustomCall, OutputFunctionCall, OutputItem, OutputMessage, OutputPart,
        OutputReasoning, OutputText, OutputTextDelta, OutputTextDone, PartEvent, ReasoningText,
        ReasoningTextDelta, ReasoningTextDone, ResponseStreamEvent as Event,
    },
};

/// Index of the only part of an item.
const PART: u32 = 0;

/// An item that the model is writing.
pub struct OpenItem {
    pub kind: ItemKind,
    id: String,
    /// Index of the item in the response.
    index: u32,
    /// The text, reasoning or arguments so far.
    text: String,
    logprobs: Vec<ChatTokenLogprob>,
}

/// The kind of an item.
pub enum ItemKind {
    Reasoning,
    Message,
    Call {
        call_id: String,
        tool: ToolName,
        /// Reads the text of a custom tool from the arguments. None for functions.
        reader: Option<InputReader>,
    },
}

impl OpenItem {
    /// An item that begins. `index` is its index in the response.
    pub fn new(kind: ItemKind, index: u32) -> Self {
        let prefix = match &kind {
            ItemKind::Reasoning => "rs",
            ItemKind::Message => "msg",
            ItemKind::Call { reader: None, .. } => "fc",
            ItemKind::Call {
                reader: Some(_), ..
            } => "ctc",
        };
        Self {
            kind,
            id: format!("{prefix}_{}", Uuid::new_v4().simple()),
            index,
            text: String::new(),
            logprobs: Vec::new(),
        }
    }

    /// Adds the events for the beginning of the item.
    pub fn tell_begin(&self, events: &mut UnsentEvents) {
        events.add(|sequence_number| {
            Event::ItemAdded(ItemEvent {
                sequence_number,
                output_index: self.index,
                item: self.item(ItemStatus::InProgress, false),
            })
        });
        self.tell_part(Event::PartAdded, events);
    }

    /// Adds an event about the item's part, if the item has one.
    fn tell_part(&self, event: fn(PartEvent) -> Event, events: &mut UnsentEvents) {
        if let Some(part) = self.part() {
            events.add(|sequence_number| {
                event(PartEvent {
                    sequence_number,
                    item_id: self.id.clone(),
                    output_index: self.index,
                    content_index: PART,
                    part,
                })
            });
        }
    }

    /// Adds text, reasoning or arguments.
    pub fn add(
        &mut self,
        delta: String,
        logprobs: Vec<ChatTokenLogprob>,
        events: &mut UnsentEvents,
    ) {
        self.text += &delta;
        self.logprobs.extend(logprobs.iter().cloned());
        let (item_id, output_index) = (self.id.clone(), self.index);
        events.add(|sequence_number| match &self.kind {
            ItemKind::Message => Event::TextDelta(OutputTextDelta {
                sequence_number,
                item_id,
                output_index,
                content_index: PART,
                delta,
                logprobs,
            }),
            ItemKind::Reasoning => Event::ReasoningDelta(ReasoningTextDelta {
                sequence_number,
                item_id,
                output_index,
                content_index: PART,
                delta,
            }),
            ItemKind::Call { reader, .. } => {
                let event = match reader {
                    None => Event::ArgumentsDelta,
                    Some(_) => Event::CustomInputDelta,
                };
                event(CallArgumentsDelta {
                    sequence_number,
                    item_id,
                    output_index,
                    delta,
                })
            }
        });
    }

    /// Ends the item. A call that has all of its arguments is complete even if the answer `is_cut_off`. With `encrypts`, reasoning
    /// also comes as `encrypted_content`.
    pub fn close(
        mut self,
        is_cut_off: bool,
        encrypts: bool,
        events: &mut UnsentEvents,
    ) -> OutputItem {
        let is_complete = !is_cut_off || self.is_whole_call();
        if let ItemKind::Call {
            reader: Some(reader),
            ..
        } = &mut self.kind
        {
            let rest = reader.finish();
            if !rest.is_empty() {
                self.add(rest, Vec::new(), events);
            }
        }
        self.tell_text(events);
        self.tell_part(Event::PartDone, events);
        let status = match is_complete {
            true => ItemStatus::Completed,
            false => ItemStatus::Incomplete,
        };
        let item = self.item(status, encrypts);
        events.add(|sequence_number| {
            Event::ItemDone(ItemEvent {
                sequence_number,
                output_index: self.index,
                item: item.clone(),
            })
        });
        item
    }

    /// Whether the item is a call with all of its arguments.
    fn is_whole_call(&self) -> bool {
        match &self.kind {
            ItemKind::Call { reader: None, .. } => {
                serde_json::from_str::<serde::de::IgnoredAny>(&self.text).is_ok()
            }
            ItemKind::Call {
                reader: Some(reader),
                ..
            } => reader.is_whole(),
            _ => false,
        }
    }

    /// Adds the event with the whole text.
    fn tell_text(&self, events: &mut UnsentEvents) {
        let (item_id, output_index) = (self.id.clone(), self.index);
        let text = self.text.clone();
        events.add(|sequence_number| match &self.kind {
            ItemKind::Message => Event::TextDone(OutputTextDone {
                sequence_number,
                item_id,
                output_index,
                content_index: PART,
                text,
                logprobs: self.logprobs.clone(),
            }),
            ItemKind::Reasoning => Event::ReasoningDone(ReasoningTextDone {
                sequence_number,
                item_id,
                output_index,
                content_index: PART,
                text,
            }),
            ItemKind::Call { reader: None, .. } => Event::ArgumentsDone(CallArgumentsDone {
                sequence_number,
                item_id,
                output_index,
                arguments: text,
            }),
            ItemKind::Call {
                reader: Some(_), ..
            } => Event::CustomInputDone(CustomInputDone {
                sequence_number,
                item_id,
                output_index,
                input: text,
            }),
        });
    }

    /// The part. None for calls.
    fn part(&self) -> Option<OutputPart> {
        let text = self.text.clone();
        match self.kind {
            ItemKind::Message => Some(OutputPart::OutputText(OutputText {
                text,
                annotations: [],
                logprobs: self.logprobs.clone(),
            })),
            ItemKind::Reasoning => Some(OutputPart::ReasoningText(ReasoningText { text })),
            ItemKind::Call { .. } => None,
        }
    }

    /// The item in its current state. An item in progress is shown without its part.
    pub fn item(&self, status: ItemStatus, encrypts: bool) -> OutputItem {
        let id = self.id.clone();
        let is_over = status != ItemStatus::InProgress;
        let content = self.part().filter(|_| is_over).into_iter().collect();
        match &self.kind {
            ItemKind::Reasoning => OutputItem::Reasoning(OutputReasoning {
                id,
                status,
                summary: Vec::new(),
                content,
                encrypted_content: encrypts.then(|| encrypted(&self.text)),
            }),
            ItemKind::Message => OutputItem::Message(OutputMessage {
                id,
                status,
                role: "assistant",
                content,
            }),
            ItemKind::Call {
                call_id,
                tool,
                reader: None,
            } => OutputItem::FunctionCall(OutputFunctionCall {
                id,
                status,
                call_id: call_id.clone(),
                namespace: tool.namespace.clone(),
                name: tool.name.clone(),
                arguments: self.text.clone(),
            }),
            ItemKind::Call {
                call_id,
                tool,
                reader: Some(_),
            } => OutputItem::CustomToolCall(OutputCustomCall {
                id,
                status,
                call_id: call_id.clone(),
                namespace: tool.namespace.clone(),
                name: tool.name.clone(),
                input: self.text.clone(),
            }),
        }
    }
}
