//! Orders messages so that a template takes them. Many templates refuse, or silently leave out, what agents send.
//!
//! 1. [`Turns::probe`] finds out once which orders of roles a template takes.
//! 2. [`Turns::lead`] rewrites the system messages at the beginning of a chat, and [`Turns::follow`] all messages after
//!    them. Both note what they changed.
//!
//! A later system message stays at its place, inside the user message beside it. At the top it would change the beginning
//! of the prompt, and none of the prompt would be cached. Its place depends on no message after the next one, so a chat
//! that goes on keeps its beginning.

use serde_json::{Value as Json, json};

/// Orders of roles that a template takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// A system message at the beginning.
    pub system: bool,
    /// A chat with only a system message.
    system_alone: bool,
    /// More than one system message at the beginning.
    several_systems: bool,
    /// System messages after other messages.
    later_system: bool,
    user_twice: bool,
    assistant_twice: bool,
    assistant_first: bool,
    /// A user message after a tool result.
    user_after_result: bool,
    /// A user message after a tool result, with an empty assistant message between them.
    answer_after_result: bool,
}

/// A change that was made to messages, as a sentence for the user.
pub type Note = &'static str;

const SYSTEMS_MERGED: Note = "the system messages at the beginning are one";
const SYSTEM_BECAME_USER: Note =
    "the system message stands in the first user message: the template takes none here";
const LATER_SYSTEM: Note = "a later system message stands in the user message beside it";
const MERGED: Note = "messages of one role in a row are one";
const RESULT_TAKES_USER: Note = "a user message behind a tool's result stands in that";
const ANSWER_INSERTED: Note =
    "an empty assistant message stands between a tool's result and the user's message";
const USER_INSERTED: Note = "an empty user message stands before the assistant's first one";

impl Turns {
    /// The turns of a template that takes every order.
    pub const ALL: Self = Self {
        system: true,
        system_alone: true,
        several_systems: true,
        later_system: true,
        user_twice: true,
        assistant_twice: true,
        assistant_first: true,
        user_after_result: true,
        answer_after_result: true,
    };

    /// Probes a template. `takes` says whether the template writes the texts of messages with these roles, in this order.
    /// `call` is an assistant's message with a tool call, and `nothing` an empty assistant message.
    pub fn probe(has_developer: bool, takes: impl Fn(&[&str]) -> bool) -> Self {
        let second = if has_developer { "developer" } else { "system" };
        let several = ["system", "system", "user"];
        Self {
            system: takes(&["system", "user"]),
            system_alone: takes(&["system"]),
            several_systems: takes(&several) && takes(&["system", second, "user"]),
            later_system: takes(&["user", "assistant", "system", "user"])
                && takes(&["user", "system", "assistant", "user"]),
            user_twice: takes(&["user", "user"]),
            assistant_twice: takes(&["user", "assistant", "assistant", "user"]),
            assistant_first: takes(&["assistant", "user"]),
            user_after_result: takes(&["user", "call", "tool", "user"]),
            answer_after_result: takes(&["user", "call", "tool", "nothing", "user"]),
        }
    }

    /// Orders to try if a template refuses a chat that it was expected to take. Every template takes these.
    pub fn stricter(self) -> [Self; 2] {
        let strictest = Self::default();
        [
            Self {
                system: self.system,
                ..strictest
            },
            strictest,
        ]
    }

    /// Rewrites the system messages at the beginning so that the template takes them.
    pub fn lead(self, messages: Vec<Json>, notes: &mut Vec<Note>) -> Vec<Json> {
        let count = messages.iter().take_while(|m| is_system(m)).count();
        let mut messages = messages.into_iter();
        let mut leading: Vec<Json> = messages.by_ref().take(count).collect();
        if leading.len() > 1 && !(self.system && self.several_systems) {
            note(notes, SYSTEMS_MERGED);
            leading = leading.into_iter().reduce(join).into_iter().collect();
        }
        let mut rest = messages.peekable();
        let is_taken = self.system && (self.system_alone || rest.peek().is_some());
        if let [system] = leading.as_mut_slice()
            && !is_taken
        {
            note(notes, SYSTEM_BECAME_USER);
            system["role"] = json!("user");
            if let Some(user) = rest.next_if(|next| next["role"] == "user") {
                let merged = join(system.take(), user);
                *system = merged;
            }
        }
        leading.into_iter().chain(rest).collect()
    }

    /// Rewrites the messages after the leading system messages so that the template takes them.
    pub fn follow(self, messages: Vec<Json>, notes: &mut Vec<Note>) -> Vec<Json> {
        let count = messages.iter().take_while(|m| is_system(m)).count();
        let mut messages = messages.into_iter();
        let mut turns: Vec<Json> = messages.by_ref().take(count).collect();
        let mut waiting = None;
        for message in messages {
            if is_system(&message) && !self.later_system {
                note(notes, LATER_SYSTEM);
                waiting = merge(waiting, as_user(message));
            } else if message["role"] == "user" {
                let message = merge(waiting.take(), message);
                turns.extend(message);
            } else {
                place(&mut turns, waiting.take());
                turns.push(message);
            }
        }
        place(&mut turns, waiting);
        self.alternate(turns, notes)
    }

    fn alternate(self, messages: Vec<Json>, notes: &mut Vec<Note>) -> Vec<Json> {
        let mut turns: Vec<Json> = Vec::with_capacity(messages.len());
        for message in messages {
            match self.between(turns.last(), &message) {
                Between::Nothing => turns.push(message),
                Between::Message(role, why) => {
                    note(notes, why);
                    turns.extend([json!({"role": role, "content": ""}), message]);
                }
                Between::Joint(why) => {
                    note(notes, why);
                    let last = turns.pop();
                    turns.extend(merge(last, message));
                }
            }
        }
        turns
    }

    /// The change between two messages that makes the template take them.
    fn between(self, last: Option<&Json>, next: &Json) -> Between {
        let has_calls = last.is_some_and(has_calls);
        match (last.map(role), role(next)) {
            (Some("user"), "user") if !self.user_twice => Between::Joint(MERGED),
            (Some("assistant"), "assistant") if !self.assistant_twice && !has_calls => {
                Between::Joint(MERGED)
            }
            (Some("tool"), "user") if !self.user_after_result => match self.answer_after_result {
                true => Between::Message("assistant", ANSWER_INSERTED),
                false => Between::Joint(RESULT_TAKES_USER),
            },
            (None | Some("system" | "developer"), "assistant") if !self.assistant_first => {
                Between::Message("user", USER_INSERTED)
            }
            _ => Between::Nothing,
        }
    }
}

enum Between {
    Nothing,
    /// An empty message of this role is inserted.
    Message(&'static str, Note),
    /// The two messages are merged.
    Joint(Note),
}

/// Appends a later system text to the user message before it. If there is none, the text becomes a message of its own.
fn place(turns: &mut Vec<Json>, text: Option<Json>) {
    let Some(text) = text else { return };
    match turns.pop_if(|last| last["role"] == "user") {
        Some(user) => turns.push(join(user, text)),
        None => turns.push(text),
    }
}

fn as_user(message: Json) -> Json {
    json!({"role": "user", "content": message["content"]})
}

fn merge(first: Option<Json>, second: Json) -> Option<Json> {
    Some(match first {
        Some(first) => join(first, second),
        None => second,
    })
}

/// Merges two messages. The role is that of the first one.
fn join(mut first: Json, mut second: Json) -> Json {
    let content = join_content(first["content"].take(), second["content"].take());
    if let (Some(fields), Json::Object(more)) = (first.as_object_mut(), second) {
        let more = more.into_iter().filter(|(name, _)| name != "role");
        for (name, value) in more {
            if fields.get(&name).is_none_or(Json::is_null) {
                fields.insert(name, value);
            }
        }
    }
    first["content"] = content;
    first
}

fn join_content(first: Json, second: Json) -> Json {
    match (first, second) {
        (Json::String(first), Json::String(second)) => {
            match first.is_empty() || second.is_empty() {
                true => first + &second,
                false => format!("{first}\n\n{second}"),
            }
            .into()
        }
        (Json::Null, other) | (other, Json::Null) => other,
        (first, second) => {
            let parts = [first, second].into_iter().flat_map(as_parts);
            parts.collect()
        }
    }
}

fn as_parts(content: Json) -> Vec<Json> {
    match content {
        Json::Array(parts) => parts,
        text => vec![json!({"type": "text", "text": text})],
    }
}

fn is_system(message: &Json) -> bool {
    matches!(role(message), "system" | "developer")
}

fn has_calls(message: &Json) -> bool {
    message["tool_calls"]
        .as_array()
        .is_some_and(|calls| !calls.is_empty())
}

fn role(message: &Json) -> &str {
    message["role"].as_str().unwrap_or_default()
}

fn note(notes: &mut Vec<Note>, note: Note) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}
