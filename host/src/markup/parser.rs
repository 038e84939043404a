use serde_json::Value;
use uuid::Uuid;

use super::{
    arguments::ArgumentReader,
    content::{AnswerContent, CallBegin, CallPiece},
    format::CallFormat,
    head::{self, CallHead},
    json::Unread,
    rules::{CallRules, Callable, Demand},
    search::{begun, first_of},
};

/// Separates text and tool calls in an answer that comes in pieces.
///
/// Text is held back while it may be the beginning of a call. White space is held back too, because it is dropped
/// beside calls. Whatever turns out to be no call is text.
pub struct CallParser {
    rules: CallRules,
    state: ParserState,
    /// Text that came and is not decided yet.
    held: String,
    content: Vec<AnswerContent>,
    /// Names and arguments of the calls. The arguments of the last call may still grow.
    calls: Vec<(String, String)>,
    /// Number of calls whose arguments are complete.
    complete: usize,
    has_text: bool,
}

#[derive(Clone, Debug)]
enum ParserState {
    /// Outside of calls.
    Text,
    /// At the beginning of a block of calls, which is still held back. Has the number of bytes before the first call.
    Opening(usize),
    /// Within the arguments of a call.
    Arguments(ArgumentReader),
    /// Behind the arguments of a call.
    Tail,
    /// Behind a call. Another call, the end of the block, or text follows.
    Between,
    /// No more calls are read: the answer may have only one, or a call was repeated.
    Done,
}

/// The next state. None: more text has to come first.
type NextState = Option<ParserState>;

impl CallParser {
    /// A parser at the beginning of an answer.
    pub fn new(rules: CallRules) -> Self {
        Self {
            rules,
            state: ParserState::Text,
            held: String::new(),
            content: Vec::new(),
            calls: Vec::new(),
            complete: 0,
            has_text: false,
        }
    }

    /// Takes more text. Returns the content that is decided now.
    pub fn push(&mut self, text: &str) -> Vec<AnswerContent> {
        self.held.push_str(text);
        while let Some(state) = self.advance() {
            self.state = state;
        }
        std::mem::take(&mut self.content)
    }

    /// Ends the answer. Returns the text that was held back, except for a call that has begun and does not name its
    /// function yet. Such a call is dropped if the answer was cut off, or if it has calls or must have some.
    pub fn finish(&mut self, is_cut_off: bool) -> Vec<AnswerContent> {
        let held = std::mem::take(&mut self.held);
        let has_calls = !self.calls.is_empty() || self.rules.are_forced();
        let drops_beginnings = is_cut_off || has_calls && !self.has_text;
        match self.state {
            ParserState::Opening(_) if is_cut_off || has_calls => {}
            ParserState::Text => {
                let mark = if drops_beginnings {
                    self.begun_mark(&held)
                } else {
                    0
                };
                let text = &held[..held.len() - mark];
                self.send_text(if has_calls || mark > 0 {
                    text.trim_end()
                } else {
                    text
                });
            }
            ParserState::Opening(_) => self.send_text(&held),
            ParserState::Arguments(_)
            | ParserState::Tail
            | ParserState::Between
            | ParserState::Done => {}
        }
        std::mem::take(&mut self.content)
    }

    /// Bytes of text that came and are not decided yet.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether no more calls are read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, ParserState::Done)
    }

    /// Whether calls are the reason why the answer ends. All of them must be complete. As in OpenAI's API, they are not
    /// the reason if the request named the function to call.
    pub fn ends_with_calls(&self) -> bool {
        self.has_called() && self.rules.demand != Demand::Named
    }

    fn advance(&mut self) -> NextState {
        match &self.state {
            ParserState::Text => self.text(),
            &ParserState::Opening(skip) => self.opening(skip),
            ParserState::Arguments(_) => self.arguments(),
            ParserState::Tail => self.tail(),
            ParserState::Between => self.between(),
            ParserState::Done => None,
        }
    }

    fn text(&mut self) -> NextState {
        if !self.calls.is_empty() && !self.has_text {
            self.drop_space();
        }
        let format = self.rules.format;
        let is_bare = format.may_be_bare && !self.has_text;
        if is_bare && self.held.trim_start().starts_with('{') {
            return Some(ParserState::Opening(0));
        }
        if let Some((at, mark)) = first_of(&self.held, format.marks()) {
            // White space beside calls is dropped, but this may still turn out to be no call.
            let sure = self.held[..at].trim_end().len();
            let text: String = self.held.drain(..sure).collect();
            self.send_text(&text);
            return Some(ParserState::Opening(at - sure + mark.len()));
        }
        let sure = self.held.len() - self.begun_mark(&self.held);
        let sure = self.held[..sure].trim_end().len();
        let text: String = self.held.drain(..sure).collect();
        self.send_text(&text);
        None
    }

    /// How many bytes at the end of `text` may be the beginning of a call.
    fn begun_mark(&self, text: &str) -> usize {
        let marks = self.rules.format.marks();
        marks.map(|mark| begun(text, mark)).max().unwrap_or(0)
    }

    fn opening(&mut self, skip: usize) -> NextState {
        let (text, behind) = (self.rules.format.text, &self.held[skip..]);
        if !text.is_empty() && behind.starts_with(text) {
            self.held.drain(..skip + text.len());
            return Some(ParserState::Text);
        }
        if text.starts_with(behind) && !text.is_empty() {
            return None;
        }
        match self.read_head(skip) {
            Ok(head) => Some(self.begin(skip, head)),
            Err(Unread::Incomplete) => None,
            Err(Unread::Wrong) => {
                // The mark, or the first character of a call without a mark, is text. The rest is read anew.
                let first = self.held.chars().next().map_or(0, char::len_utf8);
                let text: String = self.held.drain(..first.max(skip)).collect();
                self.send_text(&text);
                Some(ParserState::Text)
            }
        }
    }

    fn read_head(&self, skip: usize) -> Result<CallHead, Unread> {
        let head = head::read(&self.held[skip..], self.rules.format)?;
        self.function(&head.name).map(|_| head).ok_or(Unread::Wrong)
    }

    fn function(&self, name: &str) -> Option<&Callable> {
        let mut functions = self.rules.functions.iter();
        functions.find(|function| function.name == name)
    }

    fn begin(&mut self, skip: usize, head: CallHead) -> ParserState {
        self.held.drain(..skip + head.length);
        self.has_text = false;
        self.content.push(AnswerContent::Call(CallPiece {
            index: self.calls.len() as u32,
            begin: Some(CallBegin {
                id: format!("call_{}", Uuid::new_v4().simple()),
                name: head.name.clone(),
            }),
            arguments: String::new(),
        }));
        let parameters = self.function(&head.name).map(|known| &known.parameters);
        let reader = ArgumentReader::new(self.rules.format, parameters.unwrap_or(&Value::Null));
        self.calls.push((head.name, String::new()));
        match head.arguments {
            None => ParserState::Arguments(reader),
            Some(arguments) => {
                self.send_arguments(arguments);
                self.complete()
            }
        }
    }

    fn arguments(&mut self) -> NextState {
        let ParserState::Arguments(reader) = &mut self.state else {
            return None;
        };
        let read = reader.push(&self.held);
        self.held.drain(..read.length);
        self.send_arguments(read.json);
        read.is_complete.then(|| self.complete())
    }

    fn complete(&mut self) -> ParserState {
        self.complete += 1;
        match self.rules.is_parallel && !self.repeats() {
            true => ParserState::Tail,
            false => ParserState::Done,
        }
    }

    /// Whether calls are demanded and the last call equals an earlier one. Weak models repeat a call until their answer
    /// is cut off.
    fn repeats(&self) -> bool {
        let json = |arguments: &str| serde_json::from_str::<Value>(arguments).ok();
        let is_same = |a: &(String, String), b: &(String, String)| {
            a == b || a.0 == b.0 && json(&a.1).is_some_and(|a| Some(a) == json(&b.1))
        };
        let last = self.calls.split_last();
        self.rules.demand == Demand::Any
            && last.is_some_and(|(last, others)| others.iter().any(|other| is_same(last, other)))
    }

    fn tail(&mut self) -> NextState {
        match head::read_tail(&self.held, self.rules.format) {
            Ok(length) => {
                self.held.drain(..length);
                Some(ParserState::Between)
            }
            Err(Unread::Incomplete) => None,
            Err(Unread::Wrong) => Some(ParserState::Between),
        }
    }

    fn between(&mut self) -> NextState {
        let rest = self.held.trim_start_matches(separates);
        self.held.drain(..self.held.len() - rest.len());
        let format = self.rules.format;
        let end = format.end.trim_start_matches(separates);
        if self.held.is_empty() {
            return None;
        }
        if !end.is_empty() && self.held.starts_with(end) {
            self.held.drain(..end.len());
            return Some(ParserState::Text);
        }
        if !end.is_empty() && end.starts_with(&self.held) {
            return None;
        }
        match self.next_call() {
            Ok(()) => Some(ParserState::Opening(0)),
            Err(Unread::Incomplete) => None,
            Err(Unread::Wrong) => Some(ParserState::Text),
        }
    }

    /// Checks whether another call of the block follows.
    fn next_call(&self) -> Result<(), Unread> {
        let format = self.rules.format;
        let is_mark = |mark: &str| self.held.starts_with(mark) || mark.starts_with(&self.held);
        match format.call {
            CallFormat::Object { .. } if self.held.starts_with('{') => Ok(()),
            CallFormat::Named { .. }
                if format.separator.is_some() && !format.marks().any(is_mark) =>
            {
                self.read_head(0).map(drop)
            }
            _ => Err(Unread::Wrong),
        }
    }

    fn drop_space(&mut self) {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
    }

    fn has_called(&self) -> bool {
        !self.calls.is_empty() && self.calls.len() == self.complete
    }

    fn send_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.has_text = true;
            self.content.push(AnswerContent::Text(text.to_owned()));
        }
    }

    fn send_arguments(&mut self, arguments: String) {
        if let Some((_, earlier)) = self.calls.last_mut()
            && !arguments.is_empty()
        {
            *earlier += &arguments;
            self.content.push(AnswerContent::Call(CallPiece {
                index: self.calls.len() as u32 - 1,
                begin: None,
                arguments,
            }));
        }
    }
}

/// Whether a character may stand between the calls of a block, or before its end.
fn separates(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | ']')
}

#[cfg(test)]
pub mod tests;
