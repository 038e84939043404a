//! A server under churn, with keys, access and audit log, traces and metrics for a collector, and several models in workers.
//! Clients send chats, many of which they cancel, good and bad grammars, incomplete requests and changes of the level. Model
//! files are replaced by damaged ones. Each minute the program prints the numbers of answers, the times to the first piece of
//! a stream, and the resources that the server's processes hold. The program ends with an error if a request got a server
//! error, or if the number of idle descriptors grew.
//!
//!     cargo run --release -p tenon-tests --example soak -- [MINUTES]

use std::{
    env, fmt, fs,
    io::Write,
    mem,
    net::TcpStream,
    path::Path,
    process::ExitCode,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_tests::{
    Backend, Client, Collector, Held, Mutants, Server, ServerOptions, chat, examples,
    models::{Family, TestModel},
    smollm2,
};

/// A key of clients, and one for administration too: changes of the level need it.
const KEYS: [&str; 2] = ["soak-client", "soak-operator"];
const CHAT: &str = "/v1/chat/completions";
const CHATS: u64 = 4;
const GRAMMARS: u64 = 2;
const LEVELS: [&str; 2] = ["Q8_0", "Q4K"];
/// Pause between two changes of the level, and between two damaged files.
const PAUSE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let minutes = env::args().nth(1);
    let minutes = minutes.map_or(20, |minutes| minutes.parse().expect("a number of minutes"));
    let folder = TempDir::new().expect("a temporary directory");
    let mut collector = Collector::start();
    let (mut server, address) = start(folder.path(), &collector.endpoint());
    // After the first answers, all pools and caches exist.
    let warm = Soak::new(&address, Duration::from_secs(30));
    warm.run(folder.path()).await;
    let before = idle(&server).await;
    println!("front and workers before: {}", processes(&server));
    println!(
        "| minute | answered | cancelled | refused | broken files | server errors | p50, ms | p99, ms | RSS, MB | descriptors | threads |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    println!("| idle | {} | – | – | {before} |", Counts::default());

    let soak = Soak::new(&address, Duration::from_secs(60 * minutes));
    tokio::join!(soak.run(folder.path()), soak.report(&server));
    let after = idle(&server).await;
    println!("| idle | {} | – | – | {after} |", soak.counts);
    println!("front and workers after: {}", processes(&server));
    println!("spans at the collector: {}", collector.spans().len());
    server.signal("TERM");
    println!("{}", server.wait());
    let is_flat = after.descriptors <= before.descriptors + 2;
    let is_good = is_flat && soak.counts.errors.load(Ordering::Relaxed) == 0;
    ExitCode::from(u8::from(!is_good))
}

/// Serves SmolLM2 as `chat`, and a tiny model as `tiny`, whose file may be replaced.
fn start(folder: &Path, collector: &str) -> (Server, String) {
    TestModel::tiny(Family::Llama).write_gguf(&folder.join("tiny.gguf"));
    let backend = Backend::CandleQuantized;
    let config = format!(
        "[server]\naccess_log = true\nlog_format = 'json'\n[telemetry]\notlp_endpoint = '{collector}'\n\
         [[keys]]\nname = 'client'\nkey = '{}'\ntokens_per_minute = 10000000\n\
         [[keys]]\nname = 'operator'\nkey = '{}'\nadmin = true\n\
         [engine]\ncontext_length = 1024\nkv_tokens = 8192\n\
         [[models]]\nid = 'chat'\npath = {:?}\nquantize = 'Q8_0'\n\
         [[models]]\nid = 'tiny'\npath = {:?}\nbackend = '{}'\n",
        KEYS[0],
        KEYS[1],
        smollm2(),
        folder.join("tiny.gguf"),
        backend.id()
    );
    let mut server = ServerOptions::new(&[backend.library()])
        .config(&config)
        .start();
    let address = server.address();
    (server, address)
}

/// The resources that the process holds after cancelled requests have ended.
async fn idle(server: &Server) -> Held {
    tokio::time::sleep(PAUSE).await;
    Held::by(server)
}

/// The resident memory of the server and of each worker.
fn processes(server: &Server) -> String {
    let processes = server.processes().into_iter().map(Held::by_process);
    let memory = processes.map(|held| format!("{} MB", held.resident_mb));
    memory.collect::<Vec<_>>().join(", ")
}

struct Soak {
    address: String,
    client: Client,
    operator: Client,
    /// Times to the first piece of streams since the last report.
    first_pieces: Mutex<Vec<Duration>>,
    end: Instant,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
    /// Damaged files that were loaded or refused.
    broken: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    fn count(&self, status: StatusCode) {
        add(match status {
            status if status.is_success() => &self.answered,
            status if status.is_server_error() => &self.errors,
            _ => &self.refused,
        });
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            answered,
            cancelled,
            refused,
            broken,
            errors,
        } = self;
        let all = [answered, cancelled, refused, broken, errors];
        let all = all.map(|count| count.load(Ordering::Relaxed).to_string());
        f.write_str(&all.join(" | "))
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Soak {
    fn new(address: &str, duration: Duration) -> Self {
        let client = Client::new(address.to_owned());
        Self {
            address: address.to_owned(),
            operator: client.with_key(KEYS[1]),
            client: client.with_key(KEYS[0]),
            first_pieces: Mutex::default(),
            end: Instant::now() + duration,
            counts: Counts::default(),
        }
    }

    async fn run(&self, folder: &Path) {
        let chats = join_all((0..CHATS).map(|seed| self.chats(seed)));
        let grammars = join_all((0..GRAMMARS).map(|seed| self.grammars(seed)));
        tokio::join!(
            chats,
            grammars,
            self.levels(),
            self.broken_files(folder),
            self.half_requests(),
        );
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Opens streams. Half of them are cancelled after a few pieces.
    async fn chats(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        while self.goes_on() {
            let topic = random.u32(0..50);
            let fields = json!({"model": "chat", "stream": true, "max_tokens": random.u32(1..80), "seed": random.u32(..)});
            let body = chat(&format!("Tell me about number {topic}."), fields);
            let pieces = match random.bool() {
                true => usize::MAX,
                false => random.usize(1..20),
            };
            self.stream(&body, pieces).await;
        }
    }

    /// Reads at most `pieces` pieces of a stream.
    async fn stream(&self, body: &Value, pieces: usize) {
        let begin = Instant::now();
        let mut response = self.client.send(CHAT, body).await;
        for piece in 0..pieces {
            let chunk = response.chunk().await;
            if piece == 0 {
                self.first_pieces().push(begin.elapsed());
            }
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => return self.counts.count(response.status()),
                Err(_) => return self.counts.count(StatusCode::BAD_GATEWAY),
            }
        }
        add(&self.counts.cancelled);
    }

    /// Sends schemas that are new in each request, and grammars with mistakes.
    async fn grammars(&self, seed: u64) {
        let (mut random, examples) = (Rng::with_seed(100 + seed), examples());
        while self.goes_on() {
            let schema = &examples[random.usize(..examples.len())].schema;
            let format =
                json!({"type": "json_schema", "json_schema": {"name": "r", "schema": schema}});
            let grammar =
                json!({"type": "lark", "value": format!("start: \"{}\" missing", random.u32(..))});
            let fields = match random.u32(0..4) {
                0 => json!({"grammar": grammar}),
                _ => json!({"response_format": format, "max_tokens": 60}),
            };
            let mut body = chat("Answer.", fields);
            body["model"] = json!("chat");
            self.post(CHAT, &body).await;
        }
    }

    async fn levels(&self) {
        for level in LEVELS.iter().cycle() {
            tokio::time::sleep(PAUSE).await;
            if !self.goes_on() {
                return;
            }
            let body = json!({"model": "chat", "ggml_type": level});
            let (status, _) = self.operator.post("/re_isq", &body).await;
            self.counts.count(status);
        }
    }

    /// Loads damaged files. That fails, or gives a model with other weights.
    async fn broken_files(&self, folder: &Path) {
        let mutants = folder.join("mutants");
        fs::create_dir_all(&mutants).expect("a folder");
        let mutants = Mutants::new(&mutants, Family::Llama);
        for number in 0.. {
            tokio::time::sleep(PAUSE).await;
            if !self.goes_on() {
                return;
            }
            let (broken, what) = mutants.write(number, Backend::CandleQuantized);
            fs::rename(broken, folder.join("tiny.gguf")).expect("a rename");
            let body = json!({"model": "tiny", "ggml_type": LEVELS[number as usize % 2]});
            let (status, answer) = self.operator.post("/re_isq", &body).await;
            let is_told = answer["error"]["message"].is_string();
            assert!(status.is_success() || is_told, "{what}: {status} {answer}");
            add(&self.counts.broken);
        }
    }

    /// Opens connections that send half of a request and then disconnect.
    async fn half_requests(&self) {
        let address = self.address.trim_start_matches("http://");
        while self.goes_on() {
            let mut stream = TcpStream::connect(address).expect("a connection");
            let half = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90\r\n\r\n{";
            stream.write_all(half).expect("sent");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) {
        let (status, _) = self.client.post(path, body).await;
        self.counts.count(status);
    }

    /// The 50th and the 99th percentile of the times to the first piece since the last call, in milliseconds.
    fn percentiles(&self) -> String {
        let mut times = mem::take(&mut *self.first_pieces());
        times.sort();
        let last = times.len().saturating_sub(1);
        let at = |percent| {
            times
                .get(last * percent / 100)
                .map_or(0, Duration::as_millis)
        };
        format!("{} | {}", at(50), at(99))
    }

    fn first_pieces(&self) -> MutexGuard<'_, Vec<Duration>> {
        let times = self.first_pieces.lock();
        times.unwrap_or_else(PoisonError::into_inner)
    }

    async fn report(&self, server: &Server) {
        for minute in 1.. {
            tokio::time::sleep(Duration::from_secs(60)).await;
            if !self.goes_on() {
                return;
            }
            let (times, held) = (self.percentiles(), Held::by(server));
            println!("| {minute} | {} | {times} | {held} |", self.counts);
        }
    }
}
