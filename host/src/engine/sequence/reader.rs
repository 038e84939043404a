use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::engine::{Event, audience::Seat, channel::Sender};

/// The reader of a sequence's events, as the model thread sees it.
pub struct Reader {
    events: Sender<Event>,
    seat: Arc<Seat>,
    /// The time at which the channel became full. None if it has room.
    full_since: Option<Instant>,
}

/// Channel places reserved for the first event and the last one.
const RESERVED_EVENTS: usize = 2;

impl Reader {
    pub fn new(events: Sender<Event>, seat: Arc<Seat>) -> Self {
        Self {
            events,
            seat,
            full_since: None,
        }
    }

    pub fn send(&self, event: Event) {
        self.events.send(event);
    }

    /// Wakes the reader, because there are events.
    pub fn wake(&self) {
        self.events.wake();
    }

    /// How many tokens can be sent now.
    pub fn room(&self) -> u32 {
        self.events.room().saturating_sub(RESERVED_EVENTS) as u32
    }

    /// Notes when the channel became full.
    pub fn look_at(&mut self, now: Instant) {
        self.full_since = match self.room() {
            0 => self.full_since.or(Some(now)),
            _ => None,
        };
    }

    /// Restarts the time that the reader may be slow.
    pub fn forgive(&mut self) {
        self.full_since = None;
    }

    /// Records that the reader waits for this batch.
    pub fn wait_for(&self, batch: u32) {
        self.seat.wait_for(batch);
    }

    pub fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether the channel has been full for `write_timeout`.
    pub fn is_late(&self, now: Instant, write_timeout: Duration) -> bool {
        self.full_since
            .is_some_and(|since| since + write_timeout <= now)
    }
}
