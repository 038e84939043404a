//! A server under churn with all of operating switched on: TLS with HTTP/2, an address for administration, keys with limits, access and
//! audit log, traces and metrics for a collector, several models in workers. There are chats of which many are cancelled, good and bad
//! grammars, incomplete requests, changes of the level and of the configuration, scrapes, and model files that are replaced by damaged
//! ones. Twenty times it prints the numbers of answers, the times to the first piece of a stream, and the resources that the server's
//! processes hold. It ends with an error if a request got a server error, if no key came to its limits, or if descriptors, memory or
//! times grew.
//!
//!     cargo run --release -p tenon-tests --example soak -- [MINUTES]

mod operating;
mod samples;

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
    Authority, Backend, Client, Collector, Held, Identity, Mutants, Server, ServerOptions,
    TlsClient, chat, examples,
    models::{Family, TestModel},
    smollm2,
};

use operating::Operating;
use samples::{COUNT, Sample, growth};

/// A key of clients, and one for administration too: changes of the level need it.
const KEYS: [&str; 2] = ["soak-client", "soak-operator"];
/// A key that may ask 20 times a minute.
const LIMITED: &str = "soak-limited";
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
    let (mut server, address, operating) = start(folder.path(), &collector.endpoint());
    // After the first answers, all pools and caches exist.
    let warm = Soak::new(&address, &operating, Duration::from_secs(30));
    warm.run(folder.path(), &operating).await;
    let before = idle(&server).await;
    println!("front and workers before: {}", processes(&server));
    println!(
        "| minute | answered | cancelled | refused | at their limit | reloads | broken files | server errors | p50, ms | p99, ms | RSS, MB | descriptors | threads |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    println!("| idle | {} | – | – | {before} |", Counts::default());

    let length = Duration::from_secs(60 * minutes);
    let soak = Soak::new(&address, &operating, length);
    let ((), samples) = tokio::join!(
        soak.run(folder.path(), &operating),
        soak.report(&server, length / COUNT)
    );
    let after = idle(&server).await;
    println!("| idle | {} | – | – | {after} |", soak.counts);
    println!("front and workers after: {}", processes(&server));
    println!("spans at the collector: {}", collector.spans().len());
    server.signal("TERM");
    println!("{}", server.wait());
    let problems = soak.problems(before, after, &samples);
    for problem in &problems {
        println!("{problem}");
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}

/// Serves SmolLM2 as `chat`, and a tiny model as `tiny`, whose file may be replaced. Returns the address for clients too.
fn start(folder: &Path, collector: &str) -> (Server, String, Operating) {
    TestModel::tiny(Family::Llama).write_gguf(&folder.join("tiny.gguf"));
    let authority = Authority::new();
    let Identity { certificate, key } = authority.sign();
    let backend = Backend::CandleQuantized;
    let config = format!(
        "[server]\nlisten = ['http://127.0.0.1:0', '127.0.0.1:0']\nadmin_listen = 'unix:admin.sock'\naccess_log = true\nlog_format = 'json'\n\
         max_connections_per_client = 500\nwatch_config = false\n\
         [tls]\ncertificate_file = 'server.pem'\nkey_file = 'server.key'\n[telemetry]\notlp_endpoint = '{collector}'\n\
         [[keys]]\nname = 'limited'\nkey = '{LIMITED}'\nrequests_per_minute = 20\n[[keys]]\nname = 'client'\nkey = '{}'\ntokens_per_minute = 10000000\n\
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
        .file("server.pem", &certificate)
        .file("server.key", &key)
        .config(&config)
        .addresses_of_config()
        .start();
    let tls_address = address(&mut server, "https://");
    let operating = Operating {
        tls_address,
        tls: TlsClient::new(&authority, None, &["h2"]),
        admin: Client::of_socket(&server.home().join("admin.sock")).with_key(KEYS[1]),
        config: server.home().join("tenon.toml"),
    };
    let clients = format!("http://{}", address(&mut server, "http://"));
    (server, clients, operating)
}

/// The address that the server's log names with this scheme.
fn address(server: &mut Server, scheme: &str) -> String {
    let line = server.wait_for_log(&format!("listening at {scheme}"));
    let (_, address) = line.split_once(scheme).expect("the address");
    let address = address.split(['"', ' ']).next().expect("the address");
    address.to_owned()
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
    /// Number of requests that exceeded the limits of their key.
    limited: AtomicU64,
    /// Number of changes of the configuration.
    reloads: AtomicU64,
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
            limited,
            reloads,
            broken,
            errors,
        } = self;
        let all = [
            answered, cancelled, refused, limited, reloads, broken, errors,
        ];
        let all = all.map(|count| count.load(Ordering::Relaxed).to_string());
        f.write_str(&all.join(" | "))
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Soak {
    fn new(address: &str, operating: &Operating, duration: Duration) -> Self {
        let client = Client::new(address.to_owned());
        Self {
            address: address.to_owned(),
            operator: operating.admin.clone(),
            client: client.with_key(KEYS[0]),
            first_pieces: Mutex::default(),
            end: Instant::now() + duration,
            counts: Counts::default(),
        }
    }

    async fn run(&self, folder: &Path, operating: &Operating) {
        let chats = join_all((0..CHATS).map(|seed| self.chats(seed)));
        let grammars = join_all((0..GRAMMARS).map(|seed| self.grammars(seed)));
        tokio::join!(
            chats,
            grammars,
            self.levels(),
            self.broken_files(folder),
            self.half_requests(),
            self.operate(operating),
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

    /// The 50th and the 99th percentile of the times to the first piece since the last call.
    fn percentiles(&self) -> [Duration; 2] {
        let mut times = mem::take(&mut *self.first_pieces());
        times.sort();
        let last = times.len().saturating_sub(1);
        [50, 99].map(|percent| times.get(last * percent / 100).copied().unwrap_or_default())
    }

    fn first_pieces(&self) -> MutexGuard<'_, Vec<Duration>> {
        let times = self.first_pieces.lock();
        times.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes samples and prints them.
    async fn report(&self, server: &Server, interval: Duration) -> Vec<Sample> {
        let mut samples = Vec::new();
        for number in 1..COUNT {
            tokio::time::sleep(interval).await;
            let ([p50, p99], held) = (self.percentiles(), Held::by(server));
            let minute = (interval * number).as_secs_f64() / 60.0;
            let (p50, p99_ms) = (p50.as_millis(), p99.as_millis());
            println!(
                "| {minute:.1} | {} | {p50} | {p99_ms} | {held} |",
                self.counts
            );
            samples.push(Sample { p99, held });
        }
        samples
    }

    /// The failures of the run, in words.
    fn problems(&self, before: Held, after: Held, samples: &[Sample]) -> Vec<String> {
        let mut problems = growth(samples);
        if after.descriptors > before.descriptors + 2 {
            problems.push("descriptors were left open".to_owned());
        }
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        if count(&self.counts.errors) > 0 {
            problems.push("there were server errors".to_owned());
        }
        if count(&self.counts.limited) == 0 {
            problems.push("no key came to its limits".to_owned());
        }
        problems
    }
}
