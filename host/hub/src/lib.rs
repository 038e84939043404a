//! Fetches models from the Hugging Face Hub, or a mirror of it, into the cache that `huggingface_hub` in Python and other programs
//! use too.
//!
//! 1. [`HubSettings`] names the hub and the cache, from the environment variables that those programs know.
//! 2. [`HuggingFace`] implements the server's [`Hub`]: `listing` asks for a repository's files, `selection` chooses those that make
//!    up the model, and `download` fetches each file that is not in the [`Cache`].
//!
//! A file gets its name in the cache only when it is complete and its hash is right.

mod cache;
mod download;
mod listing;
mod selection;
mod settings;
mod variants;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use futures_util::{FutureExt, future::BoxFuture};
use indicatif::HumanBytes;
use tenon::hub::{DownloadProgress, Hub, HubModel, Watcher};

pub use self::{
    cache::{Cache, Repository},
    selection::Selection,
    settings::HubSettings,
    variants::{CachedModel, Removal},
};
use self::{
    download::Download,
    listing::{Listing, ListingError, RemoteFile},
};

/// The time that the hub gets to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the hub may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The Hugging Face Hub, and the cache on this machine.
pub struct HuggingFace {
    settings: HubSettings,
    cache: Cache,
}

impl HuggingFace {
    /// The hub and the cache of these settings.
    pub fn new(settings: HubSettings) -> Self {
        let cache = Cache::new(settings.cache.clone());
        Self { settings, cache }
    }

    /// The cache on this machine.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    async fn fetch_all(&self, model: &HubModel, watcher: &dyn Watcher) -> anyhow::Result<PathBuf> {
        if self.settings.offline {
            return self.cache.find(model).map_err(|why| {
                anyhow!(
                    "{model} is not in {}, and HF_HUB_OFFLINE is set: {why}",
                    self.cache.place()
                )
            });
        }
        let http = self.http()?;
        let listing = match Listing::ask(&http, &self.settings, model).await {
            Ok(listing) => listing,
            Err(ListingError::Unreachable(why)) => return self.instead(model, &why, watcher),
            Err(ListingError::Refused(why)) => bail!(why),
        };
        let names = listing.files.iter().map(|file| file.name.as_str());
        let selection = Selection::of(names, model.which.as_deref());
        let selection = selection.map_err(|why| anyhow!("{model} cannot be fetched: {why}"))?;
        let files = listing.selected(&selection);
        self.fetch_files(&http, model, &listing.commit, &files, watcher)
            .await?;
        let repository = self.cache.repository(&model.repository);
        Ok(selection.path_in(&repository.snapshot(&listing.commit)))
    }

    /// The model in the cache, which is used because the hub does not answer.
    fn instead(
        &self,
        model: &HubModel,
        why: &str,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<PathBuf> {
        let found = self.cache.find(model);
        let path = found.map_err(|_| anyhow!("{model} cannot be fetched: {why}"))?;
        watcher.note(&format!(
            "{model} is taken as it is in the cache, because {why}"
        ));
        Ok(path)
    }

    async fn fetch_files(
        &self,
        http: &reqwest::Client,
        model: &HubModel,
        commit: &str,
        files: &[&RemoteFile],
        watcher: &dyn Watcher,
    ) -> anyhow::Result<()> {
        let repository = self.cache.repository(&model.repository);
        let cannot_write = || {
            let place = self.cache.place();
            format!(
                "cannot write to {place}: make it writable, or set HF_HOME to another directory"
            )
        };
        repository.make().with_context(cannot_write)?;
        self.check_room(model, &repository, files)
            .with_context(cannot_write)??;
        let mut progress = DownloadProgress {
            done_bytes: 0,
            total_bytes: files.iter().map(|file| file.size).sum(),
        };
        for file in files {
            let download = Download {
                http,
                settings: &self.settings,
                repository: &repository,
                model,
                commit,
                file,
            };
            download.run(progress, watcher).await?;
            repository
                .link(commit, &file.name, file.etag())
                .with_context(cannot_write)?;
            progress.done_bytes += file.size;
            watcher.progress(progress);
        }
        repository
            .set_commit(model.revision(), commit)
            .with_context(cannot_write)
    }

    /// Refuses a download that does not fit on the disk. The outer error says that the disk cannot be inspected.
    fn check_room(
        &self,
        model: &HubModel,
        repository: &Repository,
        files: &[&RemoteFile],
    ) -> io::Result<anyhow::Result<()>> {
        let missing = files
            .iter()
            .map(|file| repository.missing_bytes(file.etag(), file.size));
        let missing: u64 = missing.sum();
        let free = free_bytes(self.cache.root())?;
        if missing <= free {
            return Ok(Ok(()));
        }
        let (missing, free, place) = (HumanBytes(missing), HumanBytes(free), self.cache.place());
        Ok(Err(anyhow!(
            "the disk of {place} has {free} left, but {model} takes {missing} more: make room, or set HF_HOME to a directory on another disk"
        )))
    }

    fn http(&self) -> anyhow::Result<reqwest::Client> {
        let builder = tenon_client::client_builder(None)?
            .user_agent(concat!("tenon/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        Ok(builder.build()?)
    }
}

impl Hub for HuggingFace {
    fn cached(&self, model: &HubModel) -> Option<PathBuf> {
        self.cache.find(model).ok()
    }

    fn fetch<'a>(
        &'a self,
        model: &'a HubModel,
        watcher: &'a dyn Watcher,
    ) -> BoxFuture<'a, anyhow::Result<PathBuf>> {
        self.fetch_all(model, watcher).boxed()
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
