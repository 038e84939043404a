//! Reads the configuration again while the server runs: at SIGHUP, when its file changes, and when an administrator asks for
//! it. Settings that can change without a restart change at once. A configuration with mistakes changes nothing
//! but the certificate, whose files are read again. A certificate with mistakes stays as it is, and holds up nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use tokio::{select, spawn};
use tracing::{error, info, warn};

use crate::{
    app::App,
    config::{self, ConfigChange, Source},
    connections::{Certificate, Limits, Register, Tls},
    models::{ModelChanges, ModelWork, Serving},
    rereading::{Orders, Reread, RereadOrder},
    shutdown,
    system::watched::{Waker, Watched, nearest},
};

/// Reads the configuration again, and applies it to the running server.
pub struct ConfigReader {
    pub source: Source,
    pub app: Arc<App>,
    pub serving: Arc<Serving>,
    pub register: Arc<Register>,
    /// None: no address speaks TLS.
    pub tls: Option<Arc<Tls>>,
}

impl ConfigReader {
    /// Reads the configuration at each order, and at each change of its file. Never returns.
    pub async fn run(self, mut orders: Orders) {
        let is_watched = self.app.now().config.server.watch_config;
        let file = self.source.file().filter(|_| is_watched);
        let waker = file.and_then(|file| follow(file, &self.app));
        let order = self.app.rereading.clone();
        let hangups = shutdown::at_each_hangup(move || drop(order.order()));
        let read = async {
            while let Some(order) = orders.recv().await {
                self.read(order).await;
                // The configuration may have other files now.
                if let Some(waker) = &waker {
                    waker.wake();
                }
            }
        };
        select! {
            () = hangups => {}
            () = read => {}
        }
    }

    /// Reads the configuration. Models that have to be loaded do not hold up the next order.
    async fn read(&self, order: RereadOrder) {
        let (mut reread, work) = match self.change().await {
            Ok(changed) => changed,
            Err(why) => {
                error!("the configuration stays as it is: {why}");
                self.renew_certificate(self.app.now().config.tls.as_ref());
                // An error means that the sender of the order did not wait.
                let _ = order.send(Err(why));
                return;
            }
        };
        let catalog = self.app.catalog.clone();
        spawn(async move {
            reread.models = work.finish(&catalog).await;
            log(&reread);
            let _ = order.send(Ok(reread));
        });
    }

    /// Reads the files of the certificate again. A mistake in the configuration must not keep a certificate until it ends, and a
    /// mistake in these files must not keep a revoked key. Returns why the certificate stays as it is.
    fn renew_certificate(&self, files: Option<&config::Tls>) -> Option<String> {
        let (tls, files) = self.tls.as_ref().zip(files)?;
        match Certificate::read(files) {
            Ok(read) => {
                if tls.replace(read) {
                    info!("new connections get another certificate");
                }
                None
            }
            Err(error) => {
                let why = format!("{error:#}");
                error!("the certificate stays as it is: {why}");
                Some(why)
            }
        }
    }

    /// Applies the configuration. Returns the changes so far, and the work on models that is left.
    async fn change(&self) -> Result<(Reread, ModelWork), String> {
        let new = self.source.load().map_err(|error| error.to_string())?;
        let ConfigChange {
            config,
            changed,
            needs_restart,
        } = ConfigChange::new(&self.app.now().config, new);
        let (server, responses) = (config.server.clone(), config.responses.clone());
        let tls = config.tls.clone();
        let work = self.serving.configure(config).await;
        let work = work.map_err(|error| format!("{error:#}"))?;
        // Nothing below but the certificate can fail, so all else is applied as a whole or not at all.
        let certificate_failed = self.renew_certificate(tls.as_ref());
        self.register.set_limits(Limits::new(&server));
        if let Err(error) = self.app.responses.set_limits(responses).await {
            error!("responses could not be dropped: {error}");
        }
        let reread = Reread {
            changed,
            needs_restart,
            certificate_failed,
            models: ModelChanges::default(),
        };
        Ok((reread, work))
    }
}

fn log(reread: &Reread) {
    let Reread {
        changed,
        needs_restart,
        models,
        ..
    } = reread;
    if *reread == Reread::default() {
        info!("the configuration was read again: nothing has changed");
        return;
    }
    info!(
        changed = changed.join(", "),
        added = models.added.join(", "),
        removed = models.removed.join(", "),
        reloaded = models.reloaded.join(", "),
        "the configuration was read again"
    );
    if !needs_restart.is_empty() || !models.needs_restart.is_empty() {
        warn!(
            keys = needs_restart.join(", "),
            models = models.needs_restart.join(", "),
            "what needs a restart stays as it is until then"
        );
    }
}

/// Orders a reading each time that one of the configuration's files has changed. Returns a handle that makes the watcher look at
/// the files again. If they cannot be watched, the log says so.
fn follow(file: &Path, app: &Arc<App>) -> Option<Waker> {
    let (app, file) = (app.clone(), file.to_owned());
    let rereading = app.rereading.clone();
    let files = move || {
        let others = app.now().config.files.clone();
        [file.clone()].into_iter().chain(others)
    };
    let mut seen = file_hashes(files());
    let of_folders = files.clone();
    let act = move |now: FileHashes| {
        if take_changes(&mut seen, now) {
            drop(rereading.order());
        }
    };
    let watched = Watched::new(move || of_folders().flat_map(|file| folders(&file)).collect());
    let waker = watched.and_then(|watched| {
        let waker = watched.waker();
        watched.follow("configuration", move || file_hashes(files()), act)?;
        Ok(waker)
    });
    waker
        .inspect_err(|error| {
            warn!(
                "the configuration file is not watched ({error}): send SIGHUP after a change, or raise \
                 fs.inotify.max_user_instances and max_user_watches"
            );
        })
        .ok()
}

/// The SHA-256 of each file's content, because keys are not kept in memory. Missing files are left out.
type FileHashes = BTreeMap<PathBuf, [u8; 32]>;

fn file_hashes(files: impl Iterator<Item = PathBuf>) -> FileHashes {
    let hash = |file: &Path| Some(Sha256::digest(fs::read(file).ok()?).into());
    files
        .filter_map(|file| Some((file.clone(), hash(&file)?)))
        .collect()
}

/// Remembers the current contents of files, and returns whether a known file has changed. A new file is no change, because it
/// belongs to the configuration that was just read. A missing file is none either, because files are missing while they are
/// replaced.
fn take_changes(seen: &mut FileHashes, now: FileHashes) -> bool {
    let differs = |(file, content): (&PathBuf, &[u8; 32])| {
        seen.get(file).is_some_and(|before| before != content)
    };
    let has_changed = now.iter().any(differs);
    seen.extend(now);
    has_changed
}

/// The folder of a file, and those of the files that it links to.
fn folders(file: &Path) -> Vec<PathBuf> {
    let whole = fs::canonicalize(file);
    let files = [Some(file.to_owned()), whole.ok()].into_iter().flatten();
    files.filter_map(|file| nearest(file.parent()?)).collect()
}
