//! The files of a model: on this machine, or on a hub from which they are fetched before the model is loaded.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use indicatif::HumanBytes;
use tokio::{runtime::Handle, select};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::ModelPath,
    hub::{DownloadProgress, Hub, HubModel, Watcher},
};

/// The time between two lines of the log about a download.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The files of one model.
pub struct ModelFiles {
    path: ModelPath,
    hub: Arc<dyn Hub>,
    /// The path of the files that were fetched. They are fetched once, because the server keeps the version that it
    /// began with.
    fetched: Mutex<Option<PathBuf>>,
    download: Mutex<Option<DownloadProgress>>,
}

/// Logs the progress of a download.
struct DownloadLog<'a> {
    model: &'a str,
    download: &'a Mutex<Option<DownloadProgress>>,
    last_line: Mutex<Instant>,
}

impl ModelFiles {
    pub fn new(path: &ModelPath, hub: &Arc<dyn Hub>) -> Self {
        Self {
            path: path.clone(),
            hub: hub.clone(),
            fetched: Mutex::default(),
            download: Mutex::default(),
        }
    }

    /// The model's file or directory. None if it is still to be fetched.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.path {
            ModelPath::Local(path) => Some(path.clone()),
            ModelPath::Hub(_) => locked(&self.fetched).clone().filter(|path| path.exists()),
        }
    }

    /// The progress of a running download.
    pub fn download(&self) -> Option<DownloadProgress> {
        *locked(&self.download)
    }

    /// Fetches the files if they are on a hub and were not fetched yet. Blocks; to be called within a runtime.
    ///
    /// # Errors
    /// The files cannot be fetched, or the server stops.
    pub fn fetch(&self, model: &str, stop: &CancellationToken) -> anyhow::Result<()> {
        let ModelPath::Hub(on_hub) = &self.path else {
            return Ok(());
        };
        if self.path().is_some() {
            return Ok(());
        }
        info!(model, "fetching {on_hub}");
        let fetched = Handle::current().block_on(self.ask(on_hub, model, stop));
        *locked(&self.download) = None;
        let path = fetched?;
        info!(model, path = %path.display(), "fetched");
        *locked(&self.fetched) = Some(path);
        Ok(())
    }

    async fn ask(
        &self,
        on_hub: &HubModel,
        model: &str,
        stop: &CancellationToken,
    ) -> anyhow::Result<PathBuf> {
        let log = DownloadLog {
            model,
            download: &self.download,
            last_line: Mutex::new(Instant::now()),
        };
        select! {
            fetched = self.hub.fetch(on_hub, &log) => fetched,
            () = stop.cancelled() => bail!("the server stops while {on_hub} is fetched"),
        }
    }
}

impl Watcher for DownloadLog<'_> {
    fn progress(&self, progress: DownloadProgress) {
        *locked(self.download) = Some(progress);
        let mut last_line = locked(&self.last_line);
        if last_line.elapsed() >= LOG_INTERVAL {
            *last_line = Instant::now();
            let [done, total] = [progress.done_bytes, progress.total_bytes].map(HumanBytes);
            info!(model = self.model, "downloading: {done} of {total}");
        }
    }

    fn note(&self, sentence: &str) {
        warn!(model = self.model, "{sentence}");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
