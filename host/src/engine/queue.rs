//! The bound on requests that wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::SubmitError;

/// When to try again after a full queue.
const RETRY_AFTER_SECS: u64 = 1;

/// Counts the requests that were submitted and do not run yet.
pub struct Queue {
    waiting: Arc<AtomicUsize>,
    max: usize,
}

/// A place in the queue. Dropping it leaves the queue.
pub struct Ticket(Arc<AtomicUsize>);

impl Queue {
    pub fn new(max: usize) -> Self {
        Self {
            waiting: Arc::default(),
            max,
        }
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> Result<Ticket, SubmitError> {
        let room = |waiting| (waiting < self.max).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| SubmitError::QueueFull {
                retry_after_secs: RETRY_AFTER_SECS,
            })?;
        Ok(Ticket(self.waiting.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
