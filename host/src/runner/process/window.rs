//! How many events of a sequence may be on their way to its reader. A reader that does not read stops its own sequence only.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Most events of a sequence that were sent and not taken by the reader.
pub const EVENTS: usize = 128;
/// The reader's side reports what was taken in pieces of this size.
pub const REPORTED: u32 = EVENTS as u32 / 2;

/// The room that a reader has, as the sending side knows it.
#[derive(Clone)]
pub struct Window(Arc<Semaphore>);

impl Window {
    /// The window of a reader that has read nothing.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(EVENTS)))
    }

    /// Waits for room for an event, and takes it.
    pub async fn take_one(&self) {
        // The semaphore is never closed.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }

    /// Adds the room of events that the reader took.
    pub fn widen(&self, events: u32) {
        let most = EVENTS - self.0.available_permits().min(EVENTS);
        self.0.add_permits((events as usize).min(most));
    }
}
