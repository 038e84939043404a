//! The bound on requests that wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::SubmitError;

/// Counts the requests that were submitted and do not run yet.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

struct Shared {
    waiting: AtomicUsize,
    arrived: AtomicU64,
    max: usize,
    /// Milliseconds between the ends of two sequences, lately.
    pace_ms: AtomicU64,
}

/// A place in the queue. Dropping it leaves the queue.
pub struct Ticket {
    queue: Queue,
    /// In order of arrival.
    pub number: u64,
}

/// Nobody is told to come back later than that.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

impl Queue {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            arrived: AtomicU64::new(0),
            max,
            pace_ms: AtomicU64::new(0),
        }))
    }

    /// Its size.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Takes so many places, or none if there are fewer.
    pub fn enter(&self, places: usize) -> Result<Vec<Ticket>, SubmitError> {
        let room = |waiting| (waiting + places <= self.0.max).then_some(waiting + places);
        let waiting = &self.0.waiting;
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|waiting| SubmitError::QueueFull {
                retry_after_secs: self.retry_after_secs(waiting),
            })?;
        let ticket = |_| Ticket {
            number: self.0.arrived.fetch_add(1, Ordering::Relaxed),
            queue: self.clone(),
        };
        Ok((0..places).map(ticket).collect())
    }

    /// Learns from the time between the ends of two sequences.
    pub fn paced(&self, between: Duration) {
        let old = self.0.pace_ms.load(Ordering::Relaxed);
        let new = between.as_millis() as u64;
        let pace = if old == 0 { new } else { (7 * old + new) / 8 };
        self.0.pace_ms.store(pace, Ordering::Relaxed);
    }

    /// When those who wait now will have begun: each has to wait for the end of another.
    fn retry_after_secs(&self, waiting: usize) -> u64 {
        let pace = self.0.pace_ms.load(Ordering::Relaxed);
        let wait = Duration::from_millis(pace.saturating_mul(waiting as u64));
        (wait.min(MAX_RETRY_AFTER).as_millis() as u64)
            .div_ceil(1000)
            .max(1)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry_after(queue: &Queue, places: usize) -> u64 {
        match queue.enter(places) {
            Err(SubmitError::QueueFull { retry_after_secs }) => retry_after_secs,
            other => panic!("{}", other.is_ok()),
        }
    }

    #[test]
    fn those_who_find_no_place_learn_when_there_may_be_one() {
        let queue = Queue::new(4);
        let tickets = queue.enter(4).unwrap();
        assert_eq!(retry_after(&queue, 1), 1);
        queue.paced(Duration::from_millis(2600));
        assert_eq!(retry_after(&queue, 1), 11);
        queue.paced(Duration::from_secs(3600));
        assert_eq!(retry_after(&queue, 1), 120);
        drop(tickets);
        assert!(queue.enter(4).is_ok());
    }

    #[test]
    fn all_get_a_place_or_none() {
        let queue = Queue::new(3);
        let two = queue.enter(2).unwrap();
        assert!(queue.enter(2).is_err());
        let third = queue.enter(1).unwrap();
        assert_eq!([two[0].number, two[1].number, third[0].number], [0, 1, 2]);
    }
}
