//! The trait of stores of responses, and the response as they keep it.

use std::sync::Arc;

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
    /// How much it counts towards the limit of all kept responses.
    pub fn bytes(&self) -> usize {
        self.response.len() + self.input.len()
    }

    /// Refuses a response that alone exceeds the limit of all kept responses.
    pub fn check_size(&self, limits: &config::Responses) -> Result<(), StoreError> {
        let (bytes, most) = (self.bytes(), limits.max_kept_bytes);
        match bytes <= most {
            true => Ok(()),
            false => Err(StoreError(format!(
                "with its input it has {bytes} bytes, more than the {most} that max_kept_bytes in [responses] allows"
            ))),
        }
    }
}

/// Why a response is not kept, or the file of responses cannot be used, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A store of responses by their ids, bounded by bytes and time. Its calls may block.
pub trait Store: Send {
    /// Sets other limits.
    fn set_limits(&mut self, limits: config::Responses) -> Result<(), StoreError>;

    /// Keeps a response. The ones that were not used for longest make room for it. One that is too large by itself is an error,
    /// and the others stay.
    fn keep(&mut self, id: String, response: KeptResponse) -> Result<(), StoreError>;

    /// The response with this id, if the client has one.
    fn get(&mut self, id: &str, client: ClientId) -> Result<Option<KeptResponse>, StoreError>;

    /// Removes the response with this id. Returns whether the client had one.
    fn remove(&mut self, id: &str, client: ClientId) -> Result<bool, StoreError>;
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;

    pub fn limits(max_kept_bytes: usize, max_kept_time: Duration) -> config::Responses {
        config::Responses {
            file: None,
            max_kept_bytes,
            max_kept_time,
        }
    }

    /// A response of ten bytes.
    pub fn response(client: u64) -> KeptResponse {
        KeptResponse {
            client: ClientId(client),
            response: "12345678".into(),
            input: "[]".into(),
        }
    }

    /// Checks the behaviour that every store must have.
    pub fn check(make: impl Fn(config::Responses) -> Box<dyn Store>) {
        let mut kept = make(limits(25, Duration::from_secs(60)));
        let client = ClientId(u64::MAX);
        let keep = |kept: &mut Box<dyn Store>, id: &str| {
            kept.keep(id.to_owned(), response(u64::MAX)).unwrap();
        };
        let has = |kept: &mut Box<dyn Store>, id: &str| kept.get(id, client).unwrap().is_some();
        keep(&mut kept, "a");
        keep(&mut kept, "b");
        assert!(has(&mut kept, "a"));
        // The least recently used response goes first.
        keep(&mut kept, "c");
        let all = |kept: &mut Box<dyn Store>| ["a", "b", "c", "d", "e"].map(|id| has(kept, id));
        assert_eq!(all(&mut kept), [true, false, true, false, false]);
        assert!(kept.get("a", ClientId(2)).unwrap().is_none());
        assert!(!kept.remove("a", ClientId(2)).unwrap());
        assert!(kept.remove("a", client).unwrap());
        assert!(!kept.remove("a", client).unwrap());
        keep(&mut kept, "d");
        assert_eq!(all(&mut kept), [false, false, true, true, false]);
        let large = KeptResponse {
            input: "x".repeat(20).into(),
            ..response(u64::MAX)
        };
        let error = kept.keep("e".to_owned(), large).unwrap_err().to_string();
        assert!(error.contains("28 bytes, more than the 25"), "{error}");
        assert_eq!(all(&mut kept), [false, false, true, true, false]);
        keep(&mut kept, "a");
        keep(&mut kept, "b");
        kept.set_limits(limits(10, Duration::from_secs(60)))
            .unwrap();
        assert_eq!(all(&mut kept), [false, true, false, false, false]);
    }
}
