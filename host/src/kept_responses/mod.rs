//! The responses that are kept, so that later requests can continue or read them: in memory (`memory.rs`), or in a file that
//! outlives the server (`file.rs`).

#[cfg(feature = "responses-file")]
mod file;
mod memory;
mod store;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::spawn_blocking;

use self::store::Store;
pub use self::store::{KeptResponse, StoreError};
use crate::{config, engine::ClientId};

/// The kept responses.
pub struct KeptResponses {
    is_on: AtomicBool,
    is_file: bool,
    kept: Arc<Mutex<Box<dyn Store>>>,
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
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
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
fn open_file(path: &Path, limits: config::Responses) -> Result<Box<dyn Store>, StoreError> {
    Ok(Box::new(file::ResponseFile::open(path, limits)?))
}

/// The configuration refuses files in such a build.
#[cfg(not(feature = "responses-file"))]
fn open_file(_: &Path, _: config::Responses) -> Result<Box<dyn Store>, StoreError> {
    Err(StoreError(
        "this build keeps no files of responses".to_owned(),
    ))
}
