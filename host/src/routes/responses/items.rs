//! Turns the pieces of an answer into items.

use super::{
    super::openai::logprobs,
    custom_input::InputReader,
    events::UnsentEvents,
    open_item::{ItemKind, OpenItem},
    tools::{ToolName, ToolNames},
};
use crate::{
    markup::{CallBegin, CallPiece},
    openai::responses::{ItemStatus, OutputItem},
    reply::{AnswerPiece, ScoredToken},
};

/// The items of a response: those that have ended, and the one that the model is writing.
pub struct Items {
    names: ToolNames,
    /// Whether reasoning comes as `encrypted_content` too.
    encrypts: bool,
    over: Vec<OutputItem>,
    open: Option<OpenItem>,
}

impl Items {
    /// `names` are the tools that may be called.
    pub fn new(names: ToolNames, encrypts: bool) -> Self {
        Self {
            names,
            encrypts,
            over: Vec::new(),
            open: None,
        }
    }

    /// Takes the next piece of the answer.
    pub fn write(&mut self, piece: AnswerPiece, events: &mut UnsentEvents) {
        let is_tokens_only = piece.has_no_content();
        let mut calls = piece.calls;
        let begins = calls.iter().position(|call| call.begin.is_some());
        let new_calls = calls.split_off(begins.unwrap_or(calls.len()));
        for CallPiece { arguments, .. } in calls {
            self.add_arguments(&arguments, events);
        }
        if !piece.reasoning.is_empty() {
            self.add_reasoning(piece.reasoning, events);
        }
        if !piece.text.is_empty() || is_tokens_only && self.is_writing_text() {
            self.add_text(piece.text, piece.tokens, events);
        }
        for call in new_calls {
            if let Some(begin) = call.begin {
                self.begin_call(begin, events);
            }
            self.add_arguments(&call.arguments, events);
        }
    }

    /// Ends the answer. An answer without any text or call gets an empty message, unless it `is_cut_off`.
    pub fn finish(&mut self, is_cut_off: bool, events: &mut UnsentEvents) {
        let is_reasoning = |item: &OutputItem| matches!(item, OutputItem::Reasoning(_));
        let is_open = self
            .open
            .as_ref()
            .is_some_and(|open| !matches!(open.kind, ItemKind::Reasoning));
        if !is_cut_off && !is_open && self.over.iter().all(is_reasoning) {
            self.begin(ItemKind::Message, events);
        }
        self.close(is_cut_off, events);
    }

    /// Takes all items, including the one that the model was writing.
    pub fn take(&mut self) -> Vec<OutputItem> {
        let open = self.open.take();
        let open = open.map(|open| open.item(ItemStatus::Incomplete, self.encrypts));
        let over = std::mem::take(&mut self.over);
        over.into_iter().chain(open).collect()
    }

    /// Whether the next text continues the open message or begins the first item.
    fn is_writing_text(&self) -> bool {
        match &self.open {
            Some(open) => matches!(open.kind, ItemKind::Message),
            None => self.over.is_empty(),
        }
    }

    fn add_reasoning(&mut self, text: String, events: &mut UnsentEvents) {
        if !self
            .open
            .as_ref()
            .is_some_and(|open| matches!(open.kind, ItemKind::Reasoning))
        {
            self.begin(ItemKind::Reasoning, events);
        }
        if let Some(open) = &mut self.open {
            open.add(text, Vec::new(), events);
        }
    }

    fn add_text(
        &mut self,
        text: String,
        tokens: Option<Vec<ScoredToken>>,
        events: &mut UnsentEvents,
    ) {
        let mut tokens = tokens.unwrap_or_default();
        if !self
            .open
            .as_ref()
            .is_some_and(|open| matches!(open.kind, ItemKind::Message))
        {
            self.begin(ItemKind::Message, events);
            tokens.drain(..tokens_before(&text, &tokens));
        }
        if let Some(open) = &mut self.open {
            open.add(text, logprobs::for_chat(tokens).content, events);
        }
    }

    fn begin_call(&mut self, begin: CallBegin, events: &mut UnsentEvents) {
        let tool = self.names.get(&begin.name).cloned();
        let tool = tool.unwrap_or(ToolName {
            namespace: None,
            name: begin.name,
            is_custom: false,
        });
        let reader = tool.is_custom.then(InputReader::default);
        let call_id = begin.id;
        self.begin(
            ItemKind::Call {
                call_id,
                tool,
                reader,
            },
            events,
        );
    }

    fn add_arguments(&mut self, arguments: &str, events: &mut UnsentEvents) {
        let Some(open) = &mut self.open else { return };
        let text = match &mut open.kind {
            ItemKind::Call {
                reader: Some(reader),
                ..
            } => reader.push(arguments),
            _ => arguments.to_owned(),
        };
        if !text.is_empty() {
            open.add(text, Vec::new(), events);
        }
    }

    /// Ends the open item, and begins another.
    fn begin(&mut self, kind: ItemKind, events: &mut UnsentEvents) {
        self.close(false, events);
        let open = OpenItem::new(kind, self.over.len() as u32);
        open.tell_begin(events);
        self.open = Some(open);
    }

    fn close(&mut self, is_cut_off: bool, events: &mut UnsentEvents) {
        if let Some(open) = self.open.take() {
            self.over
                .push(open.close(is_cut_off, self.encrypts, events));
        }
    }
}

/// The number of leading tokens that do not belong to the text, but to reasoning or calls before it.
fn tokens_before(text: &str, tokens: &[ScoredToken]) -> usize {
    let bytes_from = |at: usize| -> Vec<u8> {
        let bytes = tokens[at..].iter().map(|token| &token.bytes[..]);
        bytes.collect::<Vec<_>>().concat()
    };
    let first = (0..tokens.len()).find(|&at| bytes_from(at).starts_with(text.as_bytes()));
    first.unwrap_or(0)
}
