//! Models on the Hugging Face Hub, and their names. This library does not connect to the hub: the program gives it a [`Hub`] that
//! does.

use std::{fmt, path::PathBuf, str::FromStr};

use futures_util::future::BoxFuture;
use serde::Serialize;

/// The prefix of names of models on the hub.
const PREFIX: &str = "hf:";

/// Environment variables that may have the user's token for the hub.
pub const TOKEN_VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/// A model on the hub, as it is written: `hf:OWNER/REPO`, then `@REVISION` and `:QUANT` or `:FILE` where they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `OWNER/REPO`.
    pub repository: String,
    /// A branch, a tag or a commit. None: the branch `main`.
    pub revision: Option<String>,
    /// A quantization, or a file of the repository. None: the one that fits best.
    pub which: Option<String>,
}

/// Fetches models from a hub into a cache on this machine.
pub trait Hub: Send + Sync {
    /// The model's file or directory in the cache. None if it is missing or incomplete. Sends no requests.
    fn cached(&self, model: &HubModel) -> Option<PathBuf>;

    /// Fetches the files of the model that the cache lacks. Returns the model's file or directory. A download whose future is
    /// dropped is continued by the next one. Polling the future reads and writes files, so it needs a thread that may block.
    ///
    /// # Errors
    /// A sentence: there is no such model, the hub refuses it or cannot be reached, what arrived is damaged, or the disk is full.
    fn fetch<'a>(
        &'a self,
        model: &'a HubModel,
        watcher: &'a dyn Watcher,
    ) -> BoxFuture<'a, anyhow::Result<PathBuf>>;
}

/// Receives the progress of a download.
pub trait Watcher: Send + Sync {
    /// Takes how much of the model has arrived. Called often.
    fn progress(&self, progress: DownloadProgress);

    /// Takes something that users should know, in a sentence.
    fn note(&self, sentence: &str);
}

/// How much of a model has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DownloadProgress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// A text that does not name a model on the hub.
#[derive(Debug, thiserror::Error)]
#[error(
    "is {0:?}, but a model on the hub is written hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO:FILE, with @REVISION after REPO if needed"
)]
pub struct NotAName(String);

impl HubModel {
    /// Whether a text is meant to name a model on the hub. Paths that begin so are written `./hf:…`.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The last part of the repository's name.
    pub fn name(&self) -> &str {
        let name = self.repository.split('/').next_back();
        name.unwrap_or(&self.repository)
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl FromStr for HubModel {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        parse(text).ok_or_else(|| NotAName(text.to_owned()))
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.which {
            Some(which) => write!(f, ":{which}"),
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> Option<HubModel> {
    let text = text.strip_prefix(PREFIX)?;
    let (place, which) = split(text, ':');
    let (repository, revision) = split(place, '@');
    let (owner, name) = repository.split_once('/')?;
    let is_valid = [owner, name].iter().all(|part| is_part(part))
        && [revision, which].into_iter().flatten().all(is_inner_path);
    is_valid.then(|| HubModel {
        repository: repository.to_owned(),
        revision: revision.map(str::to_owned),
        which: which.map(str::to_owned),
    })
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Whether the hub allows this name of an owner or a repository.
fn is_part(part: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty()
        && part.chars().all(is_allowed)
        && !part.starts_with(['-', '.'])
        && !part.contains("..")
        && !part.contains("--")
}

/// Whether a path stays within the directory that it starts from.
pub fn is_inner_path(path: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(is_plain) && !path.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_repository_and_perhaps_more() {
        for (text, repository, revision, which) in [
            ("hf:a/b", "a/b", None, None),
            (
                "hf:Qwen/Qwen3-4B-GGUF:Q4_K_M",
                "Qwen/Qwen3-4B-GGUF",
                None,
                Some("Q4_K_M"),
            ),
            ("hf:a/b.c:dir/m.gguf", "a/b.c", None, Some("dir/m.gguf")),
            (
                "hf:a/b@refs/pr/1:Q8_0",
                "a/b",
                Some("refs/pr/1"),
                Some("Q8_0"),
            ),
        ] {
            let model: HubModel = text.parse().unwrap();
            assert_eq!(model.repository, repository);
            assert_eq!(model.revision.as_deref(), revision);
            assert_eq!(model.which.as_deref(), which);
            assert_eq!(model.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "a/b",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:a/b/c",
            "hf:a/b:",
            "hf:a/b@",
            "hf:../b",
            "hf:a/..",
            "hf:a/b--c",
            "hf:a/b:../c",
            "hf:a/b:/etc/passwd",
            "hf:a/b@../../x",
            "hf:a/b c",
        ] {
            let why = text.parse::<HubModel>().unwrap_err().to_string();
            assert!(why.contains("hf:OWNER/REPO:QUANT"), "{text}: {why}");
        }
    }
}
