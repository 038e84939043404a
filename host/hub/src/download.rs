//! Fetches one file into the cache. Continues where an earlier download was interrupted, and checks the hash.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_RANGE, RANGE},
};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tenon::hub::{DownloadProgress, HubModel, Watcher};
use tokio::time::sleep;

use crate::{
    HubSettings, Repository,
    listing::{Hash, RemoteFile, escaped, is_passing, refusal, unreachable},
};

/// Most failures in a row without any progress.
const MOST_FAILURES: u32 = 5;
/// The pause after the first failure. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The pause between two attempts to lock a file that another program has locked.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A file to fetch, and everything that the download needs.
pub struct Download<'a> {
    pub http: &'a Client,
    pub settings: &'a HubSettings,
    pub repository: &'a Repository,
    pub model: &'a HubModel,
    pub commit: &'a str,
    pub file: &'a RemoteFile,
}

/// Why a download broke off.
enum DownloadFailure {
    /// Another request may continue the download.
    Passing(String),
    Final(anyhow::Error),
}

impl Download<'_> {
    /// Fetches the file unless the cache has it. `before` is the progress without this file.
    ///
    /// # Errors
    /// The hub refuses the file, or is out of reach for long; what arrived is damaged; or the disk cannot be written to.
    pub async fn run(&self, before: DownloadProgress, watcher: &dyn Watcher) -> anyhow::Result<()> {
        let (etag, size) = (self.file.etag(), self.file.size);
        if self.repository.has(etag, size) {
            return Ok(());
        }
        let _lock = self.lock(watcher).await?;
        if self.repository.has(etag, size) {
            return Ok(());
        }
        let path = self.repository.incomplete(etag);
        let in_file = || format!("{}: check the disk", path.display());
        let mut partial = Partial::open(path.clone(), self.file).with_context(in_file)?;
        let is_continued = partial.len > 0;
        self.fill(&mut partial, before, watcher).await?;
        if !partial.is_right() && is_continued {
            watcher.note(&format!(
                "{} is damaged: it is fetched once more",
                self.file.name
            ));
            partial.clear().with_context(in_file)?;
            self.fill(&mut partial, before, watcher).await?;
        }
        if !partial.is_right() {
            fs::remove_file(&path).with_context(in_file)?;
            bail!(
                "{} of {} arrived damaged, its hash is not the one that the hub states, and was removed: try again, or set another HF_ENDPOINT if you use a mirror",
                self.file.name,
                self.model.repository
            );
        }
        partial
            .keep_as(self.repository.blob(etag))
            .with_context(in_file)
    }

    /// Locks the file against other programs until the result is dropped. None where locks are not supported.
    async fn lock(&self, watcher: &dyn Watcher) -> anyhow::Result<Option<File>> {
        let path = self.repository.lock(self.file.etag());
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut has_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
            }
            if !has_told {
                watcher.note(&format!(
                    "another program fetches {}: waiting for it",
                    self.file.name
                ));
                has_told = true;
            }
            sleep(LOCK_POLL).await;
        }
    }

    /// Fetches the missing bytes.
    async fn fill(
        &self,
        partial: &mut Partial,
        before: DownloadProgress,
        watcher: &dyn Watcher,
    ) -> anyhow::Result<()> {
        let mut failures = 0;
        while partial.len < partial.size {
            let len = partial.len;
            let why = match self.receive(partial, before, watcher).await {
                Ok(()) => continue,
                Err(DownloadFailure::Final(error)) => return Err(error),
                Err(DownloadFailure::Passing(why)) => why,
            };
            failures = if partial.len > len { 1 } else { failures + 1 };
            let name = &self.file.name;
            if failures > MOST_FAILURES {
                bail!(
                    "{name} could not be fetched: {why}; what has arrived is kept, and the next try goes on with it"
                );
            }
            watcher.note(&format!("{name} broke off and is continued: {why}"));
            sleep(FIRST_PAUSE * 2_u32.pow(failures - 1)).await;
        }
        Ok(())
    }

    /// Sends one request, and writes the response to the file.
    async fn receive(
        &self,
        partial: &mut Partial,
        before: DownloadProgress,
        watcher: &dyn Watcher,
    ) -> Result<(), DownloadFailure> {
        let mut response = self.ask(partial).await?;
        loop {
            let piece = response.chunk().await.map_err(broken)?;
            let Some(piece) = piece else {
                break;
            };
            partial
                .write(&piece)
                .map_err(|error| self.unwritable(error, partial))?;
            watcher.progress(DownloadProgress {
                done_bytes: before.done_bytes + partial.len,
                ..before
            });
        }
        match partial.len < partial.size {
            true => Err(DownloadFailure::Passing(
                "the hub ended the answer early".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Requests the missing bytes. The response has exactly these.
    async fn ask(&self, partial: &mut Partial) -> Result<Response, DownloadFailure> {
        let Self {
            settings,
            model,
            file,
            commit,
            ..
        } = self;
        let (endpoint, repository) = (&settings.endpoint, &model.repository);
        let name = escaped(&file.name, "-_.~/");
        let url = format!("{endpoint}/{repository}/resolve/{commit}/{name}");
        let mut request = settings.authorized(self.http.get(url));
        if partial.len > 0 {
            request = request.header(RANGE, format!("bytes={}-", partial.len));
        }
        let response = request.send().await.map_err(|error| self.passing(error))?;
        let status = response.status();
        let begin = format!("bytes {}-", partial.len);
        let range = response.headers().get(CONTENT_RANGE);
        let goes_on = range.is_some_and(|range| range.as_bytes().starts_with(begin.as_bytes()));
        match status {
            StatusCode::PARTIAL_CONTENT if goes_on => Ok(response),
            StatusCode::OK => {
                partial
                    .clear()
                    .map_err(|error| self.unwritable(error, partial))?;
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                partial
                    .clear()
                    .map_err(|error| self.unwritable(error, partial))?;
                Err(DownloadFailure::Passing(format!(
                    "{endpoint} does not continue it"
                )))
            }
            _ if is_passing(status) => Err(DownloadFailure::Passing(format!(
                "{endpoint} answers {status}"
            ))),
            _ => Err(DownloadFailure::Final(anyhow!(refusal(
                &response, settings, model
            )))),
        }
    }

    fn passing(&self, error: reqwest::Error) -> DownloadFailure {
        DownloadFailure::Passing(unreachable(self.settings, error))
    }

    fn unwritable(&self, error: io::Error, partial: &Partial) -> DownloadFailure {
        let place = partial.path.display();
        DownloadFailure::Final(anyhow!(error).context(format!(
            "{} cannot be written to {place}: make room on the disk; what has arrived is kept",
            self.file.name
        )))
    }
}

/// The failure of a connection that ended within an answer.
fn broken(error: reqwest::Error) -> DownloadFailure {
    let error = anyhow::Error::from(error.without_url());
    DownloadFailure::Passing(format!("the connection broke ({error:#})"))
}

/// The beginning of a file, which is still being fetched.
struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    size: u64,
    expected: Hash,
    hasher: Hasher,
}

impl Partial {
    /// Opens the file that an earlier download has left, or a new one. A file that is too long is cleared.
    fn open(path: PathBuf, remote: &RemoteFile) -> io::Result<Self> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)?;
        let mut hasher = Hasher::new(&remote.hash, remote.size);
        let len = feed(&mut hasher, &mut file)?;
        let mut partial = Self {
            path,
            file,
            len,
            size: remote.size,
            expected: remote.hash.clone(),
            hasher,
        };
        if len > remote.size {
            partial.clear()?;
        }
        Ok(partial)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.len = 0;
        self.hasher = Hasher::new(&self.expected, self.size);
        Ok(())
    }

    /// Appends bytes, but none beyond the size.
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let left = (self.size - self.len).min(piece.len() as u64) as usize;
        self.file.write_all(&piece[..left])?;
        self.hasher.update(&piece[..left]);
        self.len += left as u64;
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.hasher.clone().finished() == self.expected
    }

    /// Gives the file its final name, once all of it is on the disk.
    fn keep_as(self, blob: PathBuf) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(self.path, blob)
    }
}

/// Computes a hash of the kind that the hub states.
#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(kind: &Hash, size: u64) -> Self {
        match kind {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::Git(_) => Self::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn finished(self) -> Hash {
        match self {
            Self::Sha256(hasher) => Hash::Sha256(format!("{:x}", hasher.finalize())),
            Self::Git(hasher) => Hash::Git(format!("{:x}", hasher.finalize())),
        }
    }
}

/// Hashes a file to its end. Returns its length.
fn feed(hasher: &mut Hasher, file: &mut File) -> io::Result<u64> {
    let (mut buffer, mut len) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(len),
            count => {
                hasher.update(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git() {
        let hash = |kind: Hash, text: &str| {
            let mut hasher = Hasher::new(&kind, text.len() as u64);
            hasher.update(text.as_bytes());
            hasher.finished()
        };
        // `printf hello | git hash-object --stdin`, `printf hello | sha256sum`
        let of_git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(
            hash(Hash::Git(String::new()), "hello"),
            Hash::Git(of_git.to_owned())
        );
        assert_eq!(
            hash(Hash::Sha256(String::new()), "hello"),
            Hash::Sha256(sha256.to_owned())
        );
    }

    #[test]
    fn a_begun_file_is_hashed_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.incomplete");
        fs::write(&path, "hel").unwrap();
        let remote = RemoteFile {
            name: "x".to_owned(),
            size: 5,
            hash: Hash::Git("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".to_owned()),
        };
        let mut partial = Partial::open(path.clone(), &remote).unwrap();
        assert_eq!(partial.len, 3);
        partial.write(b"lo and more").unwrap();
        assert!(partial.is_right());
        partial.keep_as(folder.path().join("x")).unwrap();
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"hello");
        fs::write(&path, "longer than it is").unwrap();
        assert_eq!(Partial::open(path, &remote).unwrap().len, 0);
    }
}
