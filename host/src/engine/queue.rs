//! The limit on requests that wait.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{ClientId, SubmitError};

/// Counts the requests that were submitted and have not started.
///
/// A client may enter a full queue if it has fewer requests waiting than another client. The engine then displaces the
/// other client's youngest request.
#[derive(Clone)]
pub struct Queue(Arc<QueueState>);

struct QueueState {
    waiting: AtomicUsize,
    arrived: AtomicU64,
    max: usize,
    /// Number of waiting requests of each client. Locked by clients that enter, never by the engine.
    clients: Mutex<HashMap<ClientId, Arc<AtomicUsize>>>,
    /// Recent average of the milliseconds between the ends of two sequences.
    pace_ms: AtomicU64,
}

/// A place in the queue. Dropping it frees the place.
pub struct Ticket {
    queue: Queue,
    of_client: Arc<AtomicUsize>,
    /// Counts up in the order of arrival.
    pub number: u64,
    pub arrived: Instant,
}

/// The longest time that a client is told to wait before it tries again.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

impl Queue {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(QueueState {
            waiting: AtomicUsize::new(0),
            arrived: AtomicU64::new(0),
            max,
            clients: Mutex::default(),
            pace_ms: AtomicU64::new(0),
        }))
    }

    /// The queue's size.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Takes `places` places for a client, or none if there are fewer.
    pub fn enter(&self, client: ClientId, places: usize) -> Result<Vec<Ticket>, SubmitError> {
        let clients = self.0.clients.lock();
        let mut clients = clients.unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, waiting| waiting.load(Ordering::Relaxed) > 0);
        let waiting = self.0.waiting.load(Ordering::Relaxed);
        if waiting + places > self.max_for(&clients, client, places) {
            return Err(SubmitError::QueueFull {
                retry_after_secs: self.retry_after_secs(waiting),
            });
        }
        self.0.waiting.fetch_add(places, Ordering::Relaxed);
        let of_client = clients.entry(client).or_default();
        of_client.fetch_add(places, Ordering::Relaxed);
        let ticket = |_| Ticket {
            queue: self.clone(),
            of_client: of_client.clone(),
            number: self.0.arrived.fetch_add(1, Ordering::Relaxed),
            arrived: Instant::now(),
        };
        Ok((0..places).map(ticket).collect())
    }

    /// Most requests that may wait when this client takes `places` more. Usually this is the queue's size. It is twice that
    /// if the client that has most can give up as many places, and still has at least as many as this client afterwards.
    fn max_for(
        &self,
        clients: &HashMap<ClientId, Arc<AtomicUsize>>,
        client: ClientId,
        places: usize,
    ) -> usize {
        let waiting = |waiting: &Arc<AtomicUsize>| waiting.load(Ordering::Relaxed);
        let own = clients.get(&client).map_or(0, waiting);
        let most = clients.values().map(waiting).max().unwrap_or(0);
        match own + 2 * places <= most {
            true => 2 * self.0.max,
            false => self.0.max,
        }
    }

    /// Whether a request must be displaced; if so, the seconds after which its client may try again.
    pub fn overfull(&self) -> Option<u64> {
        let waiting = self.0.waiting.load(Ordering::Relaxed);
        (waiting > self.0.max).then(|| self.retry_after_secs(waiting))
    }

    /// Learns from the time between the ends of two sequences.
    pub fn paced(&self, between: Duration) {
        let old = self.0.pace_ms.load(Ordering::Relaxed);
        let new = between.as_millis() as u64;
        let pace = if old == 0 { new } else { (7 * old + new) / 8 };
        self.0.pace_ms.store(pace, Ordering::Relaxed);
    }

    /// Seconds until all waiting requests have started: each waits for the end of another sequence.
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
        self.of_client.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientId = ClientId(1);
    const OTHER: ClientId = ClientId(2);

    fn retry_after(queue: &Queue, places: usize) -> u64 {
        match queue.enter(CLIENT, places) {
            Err(SubmitError::QueueFull { retry_after_secs }) => retry_after_secs,
            other => panic!("{}", other.is_ok()),
        }
    }

    #[test]
    fn those_who_find_no_place_learn_when_there_may_be_one() {
        let queue = Queue::new(4);
        let tickets = queue.enter(CLIENT, 4).unwrap();
        assert_eq!(retry_after(&queue, 1), 1);
        queue.paced(Duration::from_millis(2600));
        assert_eq!(retry_after(&queue, 1), 11);
        queue.paced(Duration::from_secs(3600));
        assert_eq!(retry_after(&queue, 1), 120);
        drop(tickets);
        assert!(queue.enter(CLIENT, 4).is_ok());
    }

    #[test]
    fn all_get_a_place_or_none() {
        let queue = Queue::new(3);
        let two = queue.enter(CLIENT, 2).unwrap();
        assert!(queue.enter(CLIENT, 2).is_err());
        let third = queue.enter(CLIENT, 1).unwrap();
        assert_eq!([two[0].number, two[1].number, third[0].number], [0, 1, 2]);
    }

    #[test]
    fn a_client_that_has_more_makes_room_for_another() {
        let queue = Queue::new(4);
        let mut many = queue.enter(CLIENT, 4).unwrap();
        assert!(queue.enter(OTHER, 3).is_err());
        let one = queue.enter(OTHER, 1).unwrap();
        assert!(queue.overfull().is_some());
        many.pop();
        assert!(queue.overfull().is_none());
        let another = queue.enter(OTHER, 1).unwrap();
        many.pop();
        // Both clients have two requests each now.
        assert!(queue.enter(OTHER, 1).is_err());
        assert!(queue.enter(CLIENT, 1).is_err());
        drop((one, another));
        assert!(queue.enter(CLIENT, 2).is_ok());
    }
}
