//! The responses that are kept, so that later requests can continue or read them: in memory (`memory.rs`), or in a file that
//! outlives the server (`file.rs`).

#[cfg(feature = "responses-file")]
mod file;
mod memory;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::spawn_blocking;

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

    /// Refuses a response that alone exceeds the limit of all kept responses.
    fn check_size(&self, limits: &config::Responses) -> Result<(), StoreError> {
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
pub struct StoreError(String);

/// A store of responses by their ids, bounded by bytes and time. Its calls may block.
trait Keep: Send {
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

/// The kept responses.
pub struct KeptResponses {
    is_on: AtomicBool,
    is_file: bool,
    kept: Arc<Mutex<Box<dyn Keep>>>,
}

impl KeptResponses {
    /// Opens the configured file, or begins an empty store in memory.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(settings: &config::Responses) -> Result<Self, StoreError> {
        let kept = match &settings.file {
            Some(path) => open_file(path, settings.clone())?,
            None => Box::new(memory::Memory::new(settings.clone())),
        };
        Ok(Self {
            is_on: AtomicBool::new(settings.are_kept()),
            is_file: settings.file.is_some(),
            kept: Arc::new(Mutex::new(kept)),
        })
    }

    /// Sets other limits. The file stays.
    pub async fn set_limits(&self, limits: config::Responses) -> Result<(), StoreError> {
        self.is_on.store(limits.are_kept(), Ordering::Relaxed);
        self.with(move |kept| kept.set_limits(limits)).await
    }

    /// Whether responses are kept at all.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Keeps a response.
    ///
    /// # Errors
    /// It is too large by itself, or the file cannot be written.
    pub async fn keep(&self, id: String, response: KeptResponse) -> Result<(), StoreError> {
        self.with(move |kept| kept.keep(id, response)).await
    }

    /// The response with this id, if the client has one.
    pub async fn get(
        &self,
        id: &str,
        client: ClientId,
    ) -> Result<Option<KeptResponse>, StoreError> {
        let id = id.to_owned();
        self.with(move |kept| kept.get(&id, client)).await
    }

    /// Removes the response with this id. Returns whether the client had one.
    pub async fn remove(&self, id: &str, client: ClientId) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.with(move |kept| kept.remove(&id, client)).await
    }

    /// Runs `work` on the store: for a file, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Keep) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let kept = self.kept.clone();
        // A panic while the lock was held cannot have left a response half written.
        let work = move || work(&mut **kept.lock().unwrap_or_else(PoisonError::into_inner));
        match self.is_file {
            true => {
                let done = spawn_blocking(work).await;
                done.map_err(|error| StoreError(error.to_string()))?
            }
            false => work(),
        }
    }
}

#[cfg(feature = "responses-file")]
fn open_file(path: &Path, limits: config::Responses) -> Result<Box<dyn Keep>, StoreError> {
    Ok(Box::new(file::ResponseFile::open(path, limits)?))
}

/// The configuration refuses files in such a build.
#[cfg(not(feature = "responses-file"))]
fn open_file(_: &Path, _: config::Responses) -> Result<Box<dyn Keep>, StoreError> {
    Err(StoreError(
        "this build keeps no files of responses".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
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
    pub fn check(make: impl Fn(config::Responses) -> Box<dyn Keep>) {
        let mut kept = make(limits(25, Duration::from_secs(60)));
        let client = ClientId(u64::MAX);
        let keep = |kept: &mut Box<dyn Keep>, id: &str| {
            kept.keep(id.to_owned(), response(u64::MAX)).unwrap();
        };
        let has = |kept: &mut Box<dyn Keep>, id: &str| kept.get(id, client).unwrap().is_some();
        keep(&mut kept, "a");
        keep(&mut kept, "b");
        assert!(has(&mut kept, "a"));
        // The least recently used response goes first.
        keep(&mut kept, "c");
        let all = |kept: &mut Box<dyn Keep>| ["a", "b", "c", "d", "e"].map(|id| has(kept, id));
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
