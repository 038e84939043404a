use std::sync::Arc;

use uuid::Uuid;

use super::{
    format::ToolFormat,
    head::{self, Head},
    json::{Unread, ValueEnd},
};

/// What a model's answer may call, and how.
#[derive(Clone, Debug)]
pub struct CallSyntax {
    /// How calls are written.
    pub format: &'static ToolFormat,
    /// What may be called. A call of anything else is text.
    pub names: Arc<[String]>,
    /// Whether the answer may have more than one call.
    pub is_parallel: bool,
    /// What has to be called.
    pub demand: Demand,
}

/// What an answer has to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// What the model likes.
    Nothing,
    /// At least one tool, and the answer is nothing but calls.
    Any,
    /// One certain tool, and the answer is nothing but this call.
    Named,
}

/// A part of an answer that may call tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// More text, never empty.
    Text(String),
    /// A call begins.
    Begin {
        /// Counts from 0.
        index: u32,
        /// Like no other.
        id: String,
        name: String,
    },
    /// More of the arguments of the call that began last, never empty.
    Arguments { index: u32, text: String },
}

/// Takes an answer's text in pieces and tells text and calls apart.
///
/// Text is held back while it may be the beginning of a call, and so is white space, which is dropped beside calls.
/// What turns out to be no call is text.
pub struct CallParser {
    syntax: CallSyntax,
    state: State,
    /// What came and is not decided yet.
    held: String,
    parts: Vec<Part>,
    /// Calls whose arguments are complete.
    complete: u32,
    /// Calls that began.
    begun: u32,
    has_text: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Outside of calls.
    Text,
    /// At the beginning of a block of calls, which is still held: so many bytes until its first call.
    Opening(usize),
    /// Within arguments.
    Arguments(ValueEnd),
    /// Behind the arguments of a call.
    Tail,
    /// Behind a call: another one, the end of the block, or text.
    Between,
    /// As many calls as are allowed came.
    Done,
}

/// Whether there is more to do with the text that is there.
type Progress = Option<State>;

impl CallParser {
    /// At the beginning of an answer.
    pub fn new(syntax: CallSyntax) -> Self {
        Self {
            syntax,
            state: State::Text,
            held: String::new(),
            parts: Vec::new(),
            complete: 0,
            begun: 0,
            has_text: false,
        }
    }

    /// Takes more text. Returns what is decided now.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        while let Some(state) = self.advance() {
            self.state = state;
        }
        std::mem::take(&mut self.parts)
    }

    /// Takes the end. Returns what was held back, unless it can only be a call that was cut off before it said what it calls.
    pub fn finish(&mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        let calls = self.begun > 0 || self.syntax.demand != Demand::Nothing;
        match self.state {
            State::Opening(_) if calls => {}
            State::Text if calls && !self.has_text => {
                let mark = begun(&held, self.syntax.format.begin);
                self.send_text(held[..held.len() - mark].trim_end());
            }
            State::Text if calls => self.send_text(held.trim_end()),
            State::Text | State::Opening(_) => self.send_text(&held),
            State::Arguments(_) | State::Tail | State::Between | State::Done => {}
        }
        std::mem::take(&mut self.parts)
    }

    /// Whether no more calls may come.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether calls, all of them complete, are why the answer ends. As OpenAI has it, one that was told what to call ends
    /// like any other.
    pub fn ends_with_calls(&self) -> bool {
        self.has_called() && self.syntax.demand != Demand::Named
    }

    fn advance(&mut self) -> Progress {
        match self.state {
            State::Text => self.text(),
            State::Opening(skip) => self.opening(skip),
            State::Arguments(end) => self.arguments(end),
            State::Tail => self.tail(),
            State::Between => self.between(),
            State::Done => None,
        }
    }

    fn text(&mut self) -> Progress {
        if self.begun > 0 && !self.has_text {
            self.drop_space();
        }
        let begin = self.syntax.format.begin;
        let is_bare = self.syntax.format.may_be_bare && !self.has_text;
        if is_bare && self.held.trim_start().starts_with('{') {
            return Some(State::Opening(0));
        }
        if let Some(at) = self.held.find(begin) {
            let before: String = self.held.drain(..at).collect();
            self.send_text(before.trim_end());
            return Some(State::Opening(begin.len()));
        }
        let sure = self.held.len() - begun(&self.held, begin);
        let sure = self.held[..sure].trim_end().len();
        let text: String = self.held.drain(..sure).collect();
        self.send_text(&text);
        None
    }

    fn opening(&mut self, skip: usize) -> Progress {
        match self.read_head(skip) {
            Ok(head) => Some(self.begin(skip, head)),
            Err(Unread::Incomplete) => None,
            Err(Unread::Wrong) => {
                // Its first character is none of a call's, so that the rest may be looked at anew.
                let first = self.held.chars().next().map_or(0, char::len_utf8);
                let text: String = self.held.drain(..first.max(skip)).collect();
                self.send_text(&text);
                Some(State::Text)
            }
        }
    }

    fn read_head(&self, skip: usize) -> Result<Head, Unread> {
        let head = head::read(&self.held[skip..], self.syntax.format)?;
        match self.syntax.names.contains(&head.name) {
            true => Ok(head),
            false => Err(Unread::Wrong),
        }
    }

    fn begin(&mut self, skip: usize, head: Head) -> State {
        self.held.drain(..skip + head.length);
        self.has_text = false;
        self.parts.push(Part::Begin {
            index: self.begun,
            id: format!("call_{}", Uuid::new_v4().simple()),
            name: head.name,
        });
        self.begun += 1;
        match head.arguments {
            None => State::Arguments(ValueEnd::default()),
            Some(arguments) => {
                self.send_arguments(arguments);
                self.complete()
            }
        }
    }

    fn arguments(&mut self, mut end: ValueEnd) -> Progress {
        let ended = end.push(&self.held);
        let length = ended.unwrap_or(self.held.len());
        let text: String = self.held.drain(..length).collect();
        self.send_arguments(text);
        match ended {
            Some(_) => Some(self.complete()),
            None => {
                self.state = State::Arguments(end);
                None
            }
        }
    }

    fn complete(&mut self) -> State {
        self.complete += 1;
        match self.syntax.is_parallel {
            true => State::Tail,
            false => State::Done,
        }
    }

    fn tail(&mut self) -> Progress {
        match head::read_tail(&self.held, self.syntax.format) {
            Ok(length) => {
                self.held.drain(..length);
                Some(State::Between)
            }
            Err(Unread::Incomplete) => None,
            Err(Unread::Wrong) => Some(State::Between),
        }
    }

    fn between(&mut self) -> Progress {
        let is_separator = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ']');
        let rest = self.held.trim_start_matches(is_separator);
        let (rest, end) = (rest.to_owned(), self.syntax.format.end);
        self.held.clone_from(&rest);
        if rest.is_empty() {
            return None;
        }
        if rest.starts_with('{') {
            return Some(State::Opening(0));
        }
        if !end.is_empty() && rest.starts_with(end) {
            self.held.drain(..end.len());
            return Some(State::Text);
        }
        // The end mark may be coming.
        (!end.starts_with(&rest)).then_some(State::Text)
    }

    fn drop_space(&mut self) {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
    }

    fn has_called(&self) -> bool {
        self.begun > 0 && self.begun == self.complete
    }

    fn send_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.has_text = true;
            self.parts.push(Part::Text(text.to_owned()));
        }
    }

    fn send_arguments(&mut self, text: String) {
        if !text.is_empty() {
            let index = self.begun - 1;
            self.parts.push(Part::Arguments { index, text });
        }
    }
}

/// How many bytes at the end of `text` may be the beginning of `mark`.
pub fn begun(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at);
    lengths
        .filter(|&length| text.ends_with(&mark[..length]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
