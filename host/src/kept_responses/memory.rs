//! Responses that are kept in memory.

use std::time::Instant;

use lru::LruCache;

use super::store::{KeptResponse, Store, StoreError};
use crate::{config, engine::ClientId};

/// The responses, bounded by bytes and time.
pub struct Memory {
    limits: config::Responses,
    responses: LruCache<String, (KeptResponse, Instant)>,
    bytes: usize,
}

impl Memory {
    /// An empty store.
    pub fn new(limits: config::Responses) -> Self {
        Self {
            limits,
            responses: LruCache::unbounded(),
            bytes: 0,
        }
    }

    /// Drops the responses that are too old.
    fn drop_old(&mut self) {
        let (now, most) = (Instant::now(), self.limits.max_kept_time);
        let is_old = |since: &Instant| now.duration_since(*since) > most;
        let old = self
            .responses
            .iter()
            .filter(|(_, (_, since))| is_old(since));
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            self.drop_one(&id);
        }
    }

    fn drop_one(&mut self, id: &str) {
        if let Some((response, _)) = self.responses.pop(id) {
            self.bytes -= response.bytes();
        }
    }

    /// Drops the least recently used responses until the others fit into the limit.
    fn shrink(&mut self) {
        while self.bytes > self.limits.max_kept_bytes
            && let Some((_, (response, _))) = self.responses.pop_lru()
        {
            self.bytes -= response.bytes();
        }
    }
}

impl Store for Memory {
    fn set_limits(&mut self, limits: config::Responses) -> Result<(), StoreError> {
        self.limits = limits;
        self.drop_old();
        self.shrink();
        Ok(())
    }

    fn keep(&mut self, id: String, response: KeptResponse) -> Result<(), StoreError> {
        response.check_size(&self.limits)?;
        self.drop_old();
        self.bytes += response.bytes();
        self.responses.put(id, (response, Instant::now()));
        self.shrink();
        Ok(())
    }

    fn get(&mut self, id: &str, client: ClientId) -> Result<Option<KeptResponse>, StoreError> {
        self.drop_old();
        let found = self.responses.peek(id).map(|(response, _)| response);
        let own = found.filter(|response| response.client == client).cloned();
        if own.is_some() {
            self.responses.promote(id);
        }
        Ok(own)
    }

    fn remove(&mut self, id: &str, client: ClientId) -> Result<bool, StoreError> {
        self.drop_old();
        let found = self.responses.peek(id);
        let has_one = found.is_some_and(|(response, _)| response.client == client);
        if has_one {
            self.drop_one(id);
        }
        Ok(has_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept_responses::store::tests;

    #[test]
    fn responses_are_bounded_and_their_client_s() {
        tests::check(|limits| Box::new(Memory::new(limits)));
    }

    #[test]
    fn a_response_is_kept_for_its_time() {
        let mut kept = Memory::new(tests::limits(25, std::time::Duration::from_millis(1)));
        kept.keep("a".to_owned(), tests::response(1)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(kept.get("a", ClientId(1)).unwrap().is_none());
        assert_eq!(kept.bytes, 0);
    }
}
