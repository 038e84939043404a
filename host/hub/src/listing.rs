//! The files of a repository, as the hub lists them.

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tenon::hub::{HubModel, is_inner_path};

use crate::{HubSettings, Selection};

/// The files of a repository at one commit.
pub struct Listing {
    /// The id of the commit.
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Its name, with its directory.
    pub name: String,
    pub size: u64,
    pub hash: Hash,
}

/// The hash of a file's content, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// The SHA-256 of a large file.
    Sha256(String),
    /// The id that git gives a small file: the SHA-1 of its length and content.
    Git(String),
}

/// Why there is no listing.
#[derive(Debug)]
pub enum ListingError {
    /// The hub cannot be reached or is out of order. A later try may succeed.
    Unreachable(String),
    /// The hub refuses the request, or its answer is invalid.
    Refused(String),
}

/// The part of the hub's answer that is read.
#[derive(Deserialize)]
struct RepositoryAnswer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Asks the hub for the files of a model's repository.
    pub async fn ask(
        http: &Client,
        settings: &HubSettings,
        model: &HubModel,
    ) -> Result<Self, ListingError> {
        let endpoint = &settings.endpoint;
        let (repository, revision) = (&model.repository, encoded(model.revision()));
        let url = format!("{endpoint}/api/models/{repository}/revision/{revision}?blobs=true");
        let request = settings.authorized(http.get(url));
        let unreachable =
            |error: reqwest::Error| ListingError::Unreachable(unreachable(settings, error));
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if is_passing(status) {
            let why = format!("{endpoint} answers {status}: try again later");
            return Err(ListingError::Unreachable(why));
        }
        if !status.is_success() {
            return Err(ListingError::Refused(refusal(&response, settings, model)));
        }
        let text = response.text().await.map_err(unreachable)?;
        Self::read(&text).ok_or_else(|| {
            ListingError::Refused(format!(
                "{endpoint} does not say the sizes and hashes of the files of {repository}: check that HF_ENDPOINT is a hub or a mirror of it"
            ))
        })
    }

    /// None if the answer lacks something, or has unsafe paths or malformed hashes.
    fn read(text: &str) -> Option<Self> {
        let RepositoryAnswer { sha, siblings } = serde_json::from_str(text).ok()?;
        let files = siblings.into_iter().map(RemoteFile::read);
        is_hash(&sha, 40).then_some(Self {
            commit: sha,
            files: files.collect::<Option<_>>()?,
        })
    }

    /// The files of a selection, each once.
    pub fn selected(&self, selection: &Selection) -> Vec<&RemoteFile> {
        let files = self.files.iter();
        files
            .filter(|file| selection.files.contains(&file.name))
            .collect()
    }
}

impl RemoteFile {
    fn read(sibling: Sibling) -> Option<Self> {
        let Sibling {
            rfilename: name,
            size,
            blob_id,
            lfs,
        } = sibling;
        let (size, hash) = match lfs {
            Some(Lfs { sha256, size }) => (size, Hash::Sha256(sha256)),
            None => (size?, Hash::Git(blob_id?)),
        };
        let is_sound = is_inner_path(&name) && hash.is_well_formed();
        is_sound.then_some(Self { name, size, hash })
    }

    /// The name of the content in the cache.
    pub fn etag(&self) -> &str {
        match &self.hash {
            Hash::Sha256(hash) | Hash::Git(hash) => hash,
        }
    }
}

impl Hash {
    fn is_well_formed(&self) -> bool {
        match self {
            Self::Sha256(hash) => is_hash(hash, 64),
            Self::Git(hash) => is_hash(hash, 40),
        }
    }
}

fn is_hash(text: &str, digits: usize) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == digits && text.bytes().all(is_digit)
}

/// Escapes a revision for a URL, including `/`, which revisions may have.
fn encoded(revision: &str) -> String {
    escaped(revision, "-_.~")
}

/// Escapes the bytes of a text as `%XX`, except letters, digits and the characters in `plain`.
pub fn escaped(text: &str, plain: &str) -> String {
    let escape = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || plain.contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Whether a later try may get another answer.
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// Why a request got no answer, in a sentence.
pub fn unreachable(settings: &HubSettings, error: reqwest::Error) -> String {
    let endpoint = &settings.endpoint;
    if tenon_client::is_distrust(&error) {
        return format!(
            "nobody whom this machine trusts has signed the certificate of {endpoint}: name a file with its authority in SSL_CERT_FILE"
        );
    }
    let error = anyhow::Error::from(error.without_url());
    format!(
        "{endpoint} cannot be reached ({error:#}): check the network, or set HF_ENDPOINT to a mirror"
    )
}

/// Why the hub refuses a model, in a sentence.
pub fn refusal(response: &Response, settings: &HubSettings, model: &HubModel) -> String {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok()
    };
    let (endpoint, repository) = (&settings.endpoint, &model.repository);
    let status = response.status();
    match (header("x-error-code"), status) {
        (Some("GatedRepo"), _) => format!(
            "{repository} is gated: accept its terms at {endpoint}/{repository}, and set HF_TOKEN to a token of the account that did"
        ),
        (Some("RevisionNotFound"), _) => {
            format!(
                "{repository} has no branch, tag or commit {}: check the name after @",
                model.revision()
            )
        }
        (Some("EntryNotFound"), _) => {
            format!("{repository} has changed while it was fetched: try again")
        }
        (Some("RepoNotFound"), _) | (_, StatusCode::NOT_FOUND) => not_found(settings, repository),
        (_, StatusCode::UNAUTHORIZED) if settings.token.is_none() => {
            not_found(settings, repository)
        }
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => format!(
            "{endpoint} refuses the token ({}): check HF_TOKEN",
            header("x-error-message").unwrap_or(status.as_str())
        ),
        _ => format!(
            "{endpoint} answers {status} to a request for {repository}: check the name and HF_ENDPOINT"
        ),
    }
}

fn not_found(settings: &HubSettings, repository: &str) -> String {
    let what_to_do = match settings.token {
        Some(_) => "or whether the account of HF_TOKEN may read it",
        None => "or set HF_TOKEN if it is private",
    };
    format!(
        "{} has no {repository}: check the name, {what_to_do}",
        settings.endpoint
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(file: &str) -> String {
        let commit = "c".repeat(40);
        format!(r#"{{"sha": "{commit}", "siblings": [{file}]}}"#)
    }

    #[test]
    fn large_files_have_a_sha256_and_small_ones_the_hash_of_git() {
        let (large, small) = ("a".repeat(64), "b".repeat(40));
        let listing = Listing::read(&answer(&format!(
            r#"{{"rfilename": "m.gguf", "size": 1, "blobId": "{small}", "lfs": {{"sha256": "{large}", "size": 9, "pointerSize": 1}}}},
               {{"rfilename": "d/config.json", "size": 2, "blobId": "{small}"}}"#
        )));
        let files = listing.unwrap().files;
        assert_eq!((files[0].size, &files[0].hash), (9, &Hash::Sha256(large)));
        assert_eq!((files[1].size, &files[1].hash), (2, &Hash::Git(small)));
    }

    #[test]
    fn names_and_hashes_that_lead_elsewhere_are_refused() {
        let hash = "b".repeat(40);
        for (name, hash) in [
            ("../m.gguf", hash.as_str()),
            ("/etc/passwd", &hash),
            ("a//b", &hash),
            ("m.gguf", "../../x"),
            ("m.gguf", ""),
        ] {
            let file = format!(r#"{{"rfilename": "{name}", "size": 2, "blobId": "{hash}"}}"#);
            assert!(Listing::read(&answer(&file)).is_none(), "{name} {hash}");
        }
        assert!(Listing::read(&answer(r#"{"rfilename": "m.gguf"}"#)).is_none());
        assert!(Listing::read(r#"{"sha": "../x", "siblings": []}"#).is_none());
    }
}
