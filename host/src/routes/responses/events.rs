//! The events of a response that were not sent yet.

use crate::openai::responses::ResponseStreamEvent as Event;

/// Events that were not sent yet. Each gets the next number.
#[derive(Default)]
pub struct UnsentEvents {
    next: u32,
    ready: Vec<Event>,
}

impl UnsentEvents {
    /// Adds the event that is made with the next number.
    pub fn add(&mut self, event: impl FnOnce(u32) -> Event) {
        self.ready.push(event(self.next));
        self.next += 1;
    }

    /// Takes the events.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.ready)
    }
}
