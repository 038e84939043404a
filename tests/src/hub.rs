//! A small server that speaks the API of the Hugging Face Hub, and can fail in chosen ways. Like the real hub, it redirects requests
//! for large files to another server, its store.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, future::pending, stream};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::{runtime, time::sleep};

/// The repository that the hub has.
pub const REPOSITORY: &str = "tenon/tiny";

/// The commit that the repository's branch `main` has.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The time before a file breaks off.
const BEFORE_BREAK: Duration = Duration::from_millis(50);

/// A hub with one repository. It ends with the process.
pub struct HubServer {
    address: String,
    shared: Arc<Mutex<Shared>>,
}

/// A way in which the hub fails.
#[derive(Clone, Copy, PartialEq)]
pub enum Trouble {
    Nothing,
    /// Files break off after so many bytes.
    Breaks(usize),
    /// Files stop coming after so many bytes, while the connection stays open.
    Stalls(usize),
    /// The first byte of a file is wrong.
    Damages,
    /// The listing is there, but every file says that terms have to be accepted.
    IsGated,
    /// There is no such repository.
    LacksIt,
    /// Every answer is an error of the server.
    IsBroken,
    /// Files are said to be of a size that no disk has.
    Exaggerates,
}

/// A request that the hub got.
#[derive(Clone)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

struct Shared {
    /// The repository's files with their names.
    files: Vec<(String, Bytes)>,
    trouble: Trouble,
    asked: Vec<Asked>,
    /// The URL of the store.
    store: String,
    asked_of_store: Vec<Asked>,
}

impl HubServer {
    /// Starts a hub with these files.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let (hub, address) = listener();
        let (store, store_address) = listener();
        let owned =
            |(name, content): &(&str, &[u8])| (name.to_string(), Bytes::copy_from_slice(content));
        let shared = Arc::new(Mutex::new(Shared {
            files: files.iter().map(owned).collect(),
            trouble: Trouble::Nothing,
            asked: Vec::new(),
            store: store_address,
            asked_of_store: Vec::new(),
        }));
        serve(
            hub,
            Router::new().fallback(answer).with_state(shared.clone()),
        );
        let stored = Router::new().fallback(stored).with_state(shared.clone());
        serve(store, stored);
        Self { address, shared }
    }

    /// Its URL.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes the hub fail in this way from now on.
    pub fn set(&self, trouble: Trouble) {
        self.shared().trouble = trouble;
    }

    /// Adds a file to the same commit.
    pub fn add(&self, name: &str, content: &[u8]) {
        let file = (name.to_owned(), Bytes::copy_from_slice(content));
        self.shared().files.push(file);
    }

    /// The requests for files since the last call.
    pub fn asked_for_files(&self) -> Vec<Asked> {
        let asked = std::mem::take(&mut self.shared().asked);
        let files = asked
            .into_iter()
            .filter(|asked| asked.path.contains("/resolve/"));
        files.collect()
    }

    /// The requests to the store since the last call.
    pub fn asked_of_store(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared().asked_of_store)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic")
    }
}

/// A free port, and its URL.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, address)
}

fn serve(listener: TcpListener, router: Router) {
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, router).await
        })
    });
}

async fn stored(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let mut shared = shared.lock().expect("no panic");
    let (uri, headers) = (request.uri(), request.headers());
    shared.asked_of_store.push(asked(uri, headers));
    let name = uri.path().trim_start_matches('/');
    let mut files = shared.files.iter();
    let (name, content) = files.find(|(known, _)| known == name).expect("a file");
    file(name, content, shared.trouble, headers)
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let mut shared = shared.lock().expect("no panic");
    shared.asked.push(asked(uri, headers));
    match shared.trouble {
        Trouble::LacksIt => refused(StatusCode::UNAUTHORIZED, "RepoNotFound"),
        Trouble::IsBroken => StatusCode::BAD_GATEWAY.into_response(),
        trouble => match (uri.path().split_once("/resolve/"), trouble) {
            (None, _) => axum::Json(shared.listing()).into_response(),
            (Some(_), Trouble::IsGated) => refused(StatusCode::FORBIDDEN, "GatedRepo"),
            (Some((_, path)), trouble) => {
                // The revision comes before the file.
                let name = path.split_once('/').map_or("", |(_, name)| name);
                match shared.files.iter().find(|(known, _)| known == name) {
                    Some((name, content)) if is_large(name) => {
                        redirect(name, content, &shared.store)
                    }
                    Some((name, content)) => file(name, content, trouble, headers),
                    None => refused(StatusCode::NOT_FOUND, "EntryNotFound"),
                }
            }
        },
    }
}

impl Shared {
    fn listing(&self) -> Value {
        let siblings = self.files.iter().map(|(name, content)| {
            let size = match self.trouble {
                Trouble::Exaggerates => 1 << 60,
                _ => content.len(),
            };
            let lfs = json!({"sha256": etag(name, content), "size": size, "pointerSize": 100});
            match is_large(name) {
                true => {
                    json!({"rfilename": name, "size": size, "blobId": "0".repeat(40), "lfs": lfs})
                }
                false => json!({"rfilename": name, "size": size, "blobId": etag(name, content)}),
            }
        });
        json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()})
    }
}

fn asked(uri: &Uri, headers: &HeaderMap) -> Asked {
    let header = |name| {
        let value = headers.get(name)?;
        Some(value.to_str().expect("a text").to_owned())
    };
    Asked {
        path: uri.path().to_owned(),
        range: header(header::RANGE),
        authorization: header(header::AUTHORIZATION),
    }
}

fn refused(status: StatusCode, code: &'static str) -> Response {
    (status, [("x-error-code", code)]).into_response()
}

/// Sends a client to the store, with what it has to know of the file.
fn redirect(name: &str, content: &Bytes, store: &str) -> Response {
    let headers = [
        (header::LOCATION.as_str(), format!("{store}/{name}")),
        ("x-linked-etag", format!("\"{}\"", etag(name, content))),
        ("x-linked-size", content.len().to_string()),
        ("x-repo-commit", COMMIT.to_owned()),
    ];
    (StatusCode::FOUND, headers).into_response()
}

/// A file, from the byte on that the request asks for.
fn file(name: &str, content: &Bytes, trouble: Trouble, headers: &HeaderMap) -> Response {
    let range = headers
        .get(header::RANGE)
        .map(|range| range.to_str().expect("a text"));
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let start: usize = start.map_or(0, |start| start.parse().expect("a number"));
    let mut rest = content.slice(start..);
    if trouble == Trouble::Damages && start == 0 {
        let mut damaged = rest.to_vec();
        damaged[0] ^= 1;
        rest = damaged.into();
    }
    let len = rest.len();
    let body = match trouble {
        Trouble::Breaks(after) if after < len => {
            let begin = stream::iter([Ok(rest.slice(..after))]);
            let broken = async {
                // By then, the bytes before the break have been sent.
                sleep(BEFORE_BREAK).await;
                Err(io::Error::other("it breaks"))
            };
            Body::from_stream(begin.chain(stream::once(broken)))
        }
        Trouble::Stalls(after) if after < len => {
            let begin = stream::iter([Ok::<_, io::Error>(rest.slice(..after))]);
            Body::from_stream(begin.chain(stream::once(pending())))
        }
        _ => Body::from(rest),
    };
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let total = content.len();
    let headers = [
        (
            header::ETAG.as_str(),
            format!("\"{}\"", etag(name, content)),
        ),
        ("x-repo-commit", COMMIT.to_owned()),
        (header::CONTENT_LENGTH.as_str(), len.to_string()),
        (
            header::CONTENT_RANGE.as_str(),
            format!("bytes {start}-{}/{total}", total.saturating_sub(1)),
        ),
    ];
    (status, headers, body).into_response()
}

/// Whether the hub keeps a file as a large one.
fn is_large(name: &str) -> bool {
    !name.ends_with(".json")
}

/// The hash that identifies the content of a file.
fn etag(name: &str, content: &[u8]) -> String {
    match is_large(name) {
        true => format!("{:x}", Sha256::digest(content)),
        false => {
            let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
            hasher.update(content);
            format!("{:x}", hasher.finalize())
        }
    }
}
