//! The responses that are kept in memory, so that later requests can continue or read them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lru::LruCache;

use crate::{config, engine::ClientId};

/// A response with its input, both as JSON.
#[derive(Clone, Debug)]
pub struct KeptResponse {
    /// The client that it belongs to. Others do not see it.
    pub client: ClientId,
    /// The response.
    pub response: Arc<str>,
    /// The list of all items before it.
    pub input: Arc<str>,
}

impl KeptResponse {
    fn bytes(&self) -> usize {
        self.response.len() + self.input.len()
    }
}

/// The kept responses by their ids, bounded by bytes and time.
pub struct KeptResponses(Mutex<Kept>);

struct Kept {
    limits: config::Responses,
    responses: LruCache<String, (KeptResponse, Instant)>,
    bytes: usize,
}

impl KeptResponses {
    /// Nothing is kept yet.
    pub fn new(limits: config::Responses) -> Self {
        Self(Mutex::new(Kept {
            limits,
            responses: LruCache::unbounded(),
            bytes: 0,
        }))
    }

    /// Sets other limits.
    pub fn set_limits(&self, limits: config::Responses) {
        self.lock().limits = limits;
        self.with(Instant::now(), Kept::shrink);
    }

    /// Whether responses are kept at all.
    pub fn is_on(&self) -> bool {
        self.lock().limits.max_kept_bytes > 0
    }

    /// Keeps a response, unless it is too large by itself.
    pub fn keep(&self, id: String, response: KeptResponse) {
        let now = Instant::now();
        self.with(now, |kept| {
            kept.bytes += response.bytes();
            kept.responses.put(id, (response, now));
            kept.shrink();
        });
    }

    /// The response with this id, if the client has one.
    pub fn get(&self, id: &str, client: ClientId) -> Option<KeptResponse> {
        self.with(Instant::now(), |kept| {
            let (response, _) = kept.responses.peek(id)?;
            let response = Some(response.clone()).filter(|response| response.client == client);
            kept.responses.promote(id);
            response
        })
    }

    /// Removes the response with this id. Returns whether the client had one.
    pub fn remove(&self, id: &str, client: ClientId) -> bool {
        self.with(Instant::now(), |kept| {
            let is_own = |(response, _): &(KeptResponse, Instant)| response.client == client;
            let has_one = kept.responses.peek(id).is_some_and(is_own);
            if has_one && let Some((response, _)) = kept.responses.pop(id) {
                kept.bytes -= response.bytes();
            }
            has_one
        })
    }

    /// Works on the responses that are not too old.
    fn with<T>(&self, now: Instant, work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.lock();
        let most = kept.limits.max_kept_time;
        let is_old = |since: &Instant| now.duration_since(*since) > most;
        let old = kept
            .responses
            .iter()
            .filter(|(_, (_, since))| is_old(since));
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            if let Some((response, _)) = kept.responses.pop(&id) {
                kept.bytes -= response.bytes();
            }
        }
        work(&mut kept)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic while the lock was held cannot have left a response half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Drops the responses that were not used for longest, until the others fit into the limit.
    fn shrink(&mut self) {
        while self.bytes > self.limits.max_kept_bytes && self.drop_oldest() {}
    }

    /// Drops the response that was not used for longest. Returns whether there was one.
    fn drop_oldest(&mut self) -> bool {
        match self.responses.pop_lru() {
            Some((_, (response, _))) => {
                self.bytes -= response.bytes();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Duration};

    use super::*;

    fn kept(max_kept_bytes: usize, max_kept_time: Duration) -> KeptResponses {
        KeptResponses::new(config::Responses {
            max_kept_bytes,
            max_kept_time,
        })
    }

    /// A response of ten bytes.
    fn response(client: u64) -> KeptResponse {
        KeptResponse {
            client: ClientId(client),
            response: "12345678".into(),
            input: "[]".into(),
        }
    }

    #[test]
    fn the_response_that_was_not_used_for_longest_is_dropped_first() {
        let kept = kept(25, Duration::from_secs(60));
        let has = |id: &str| kept.get(id, ClientId(1)).is_some();
        kept.keep("a".to_owned(), response(1));
        kept.keep("b".to_owned(), response(1));
        assert!(has("a"));
        kept.keep("c".to_owned(), response(1));
        assert_eq!(["a", "b", "c"].map(has), [true, false, true]);
        assert!(kept.remove("a", ClientId(1)));
        assert!(!kept.remove("a", ClientId(1)));
        kept.keep("d".to_owned(), response(1));
        assert_eq!(["a", "b", "c", "d"].map(has), [false, false, true, true]);
        let large = KeptResponse {
            input: "x".repeat(20).into(),
            ..response(1)
        };
        kept.keep("e".to_owned(), large);
        assert_eq!(["c", "d", "e"].map(has), [false; 3]);
    }

    #[test]
    fn a_response_is_its_client_s() {
        let kept = kept(25, Duration::from_secs(60));
        kept.keep("a".to_owned(), response(1));
        assert!(kept.get("a", ClientId(2)).is_none());
        assert!(!kept.remove("a", ClientId(2)));
        assert!(kept.get("a", ClientId(1)).is_some());
    }

    #[test]
    fn a_response_is_kept_for_its_time() {
        let kept = kept(25, Duration::from_millis(1));
        kept.keep("a".to_owned(), response(1));
        sleep(Duration::from_millis(2));
        assert!(kept.get("a", ClientId(1)).is_none());
        assert_eq!(kept.lock().bytes, 0);
    }
}
