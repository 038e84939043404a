//! Models whose workers end, move to other plugins, or come and go, while requests arrive. Each part prints what it counted. The
//! program ends with an error if a request failed without its own worker being killed, or if a request hangs.
//!
//!     cargo run --release -p tenon-tests --example workers -- kills --seconds 300 --times 100
//!     cargo run --release -p tenon-tests --example workers -- replacements --seconds 120 --times 24
//!     cargo run --release -p tenon-tests --example workers -- loads --times 50

use std::{
    future::Future,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use clap::{Args, Parser};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::{Client, Held, Server, ServerOptions, install, kill, smollm2};
use tokio::time::{sleep, timeout};

const PLAIN: &str = "/v1/completions";
const ECHO: &str = "tenon_plugin_echo";
/// The library of the model whose worker is killed: not echo, so that its worker can be told from those of echo.
const VICTIM: &str = "tenon_fixture_crashes";
/// Streams of the model whose worker is killed.
const STREAMS: usize = 16;
/// Clients of each other model.
const CLIENTS: usize = 2;
/// The time after which a request counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
enum Part {
    /// Kill the worker of one model under 16 streams, while two other models answer.
    Kills(Pace),
    /// Replace the plugin of running models under load.
    Replacements(Pace),
    /// Unload and load SmolLM2, and print what the server's own process holds.
    Loads {
        #[arg(long)]
        times: u32,
    },
}

#[derive(Args)]
struct Pace {
    #[arg(long)]
    seconds: u32,
    #[arg(long)]
    times: u32,
}

impl Pace {
    fn pause(&self) -> Duration {
        Duration::from_secs(self.seconds.into()) / self.times
    }
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    /// Requests that were answered with an error that says that the model is unavailable.
    told: AtomicU64,
    failed: AtomicU64,
    hung: AtomicU64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let is_good = match Part::parse() {
        Part::Kills(pace) => kills(&pace).await,
        Part::Replacements(pace) => replacements(&pace).await,
        Part::Loads { times } => loads(times).await,
    };
    ExitCode::from(u8::from(!is_good))
}

async fn kills(pace: &Pace) -> bool {
    let keys = "[engine]\nmax_draft_tokens = 0\nmax_restarts = 1000\n";
    let (server, client) = start(&["calm.crashes", "one.echo", "two.echo"], keys);
    let (victim, others, stop) = <(Counts, Counts, AtomicBool)>::default();
    let faults = async {
        for _ in 0..pace.times {
            sleep(pace.pause()).await;
            kill(server.worker_of(VICTIM));
        }
        stop.store(true, Relaxed);
    };
    tokio::join!(
        faults,
        ask_again_and_again(&client, "calm", STREAMS, &stop, &victim),
        ask_again_and_again(&client, "one", CLIENTS, &stop, &others),
        ask_again_and_again(&client, "two", CLIENTS, &stop, &others),
    );
    println!("the killed model:  {}", victim.line());
    println!("the other models:  {}", others.line());
    victim.are_told() && others.are_answered()
}

async fn replacements(pace: &Pace) -> bool {
    let keys = "[plugins]\nreload_on_replace = true\n[engine]\nmax_draft_tokens = 0\n";
    let (server, client) = start(&["one.echo", "two.echo"], keys);
    let (counts, stop) = <(Counts, AtomicBool)>::default();
    let faults = async {
        for _ in 0..pace.times {
            sleep(pace.pause()).await;
            let folder = server.home().join("plugins");
            install(&folder, ECHO, &format!("lib{ECHO}.so"));
        }
        stop.store(true, Relaxed);
    };
    tokio::join!(
        faults,
        ask_again_and_again(&client, "one", CLIENTS, &stop, &counts),
        ask_again_and_again(&client, "two", CLIENTS, &stop, &counts),
    );
    println!("requests:  {}", counts.line());
    counts.are_answered()
}

async fn loads(times: u32) -> bool {
    let model = smollm2();
    let mut server = ServerOptions::new(&["tenon_plugin_candle_quantized"])
        .arguments(&[&model.to_string_lossy()])
        .start();
    let client = server.client();
    let id = model.file_stem().expect("a name").to_string_lossy();
    println!("| loads | RSS of the server, MB | descriptors | threads |\n|---:|---:|---:|---:|");
    let mut held = Vec::new();
    for done in 0..=times {
        client.chat("Hi", json!({"max_tokens": 4})).await;
        if done <= 1 || done % 10 == 0 {
            let now = Held::by_process(server.pid());
            println!("| {done} | {now} |");
            held.push(now);
        }
        for change in ["unload", "load"] {
            let path = format!("/admin/models/{id}/{change}");
            let (status, answer) = client.post(&path, &json!({})).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
    }
    // After the first load all caches exist.
    let [_, first, .., last] = held.as_slice() else {
        return true;
    };
    let is_flat = last.resident_mb * 20 <= first.resident_mb * 21;
    is_flat && last.descriptors <= first.descriptors
}

/// A server of a model for each file.
fn start(files: &[&str], keys: &str) -> (Server, Client) {
    let models = files
        .iter()
        .map(|file| format!("[[models]]\npath = '{file}'\n"));
    let config = [keys.to_owned()]
        .into_iter()
        .chain(models)
        .collect::<String>();
    let options = ServerOptions::new(&[ECHO, VICTIM]).config(&config);
    let options = files
        .iter()
        .fold(options, |options, file| options.file(file, ""));
    let mut server = options.start();
    for file in files {
        let (id, _) = file.split_once('.').expect("an extension");
        server.wait_for_log(&format!("model ready model=\"{id}\""));
    }
    let client = server.client();
    (server, client)
}

/// Has a number of clients ask a model, each one request after the other.
async fn ask_again_and_again(
    client: &Client,
    model: &str,
    clients: usize,
    stop: &AtomicBool,
    counts: &Counts,
) {
    let body = json!({"model": model, "prompt": "All that is said is said again.", "stream": true, "temperature": 0});
    let ask = || async {
        while !stop.load(Relaxed) {
            counts.count(client.send(PLAIN, &body)).await;
        }
    };
    join_all((0..clients).map(|_| ask())).await;
}

impl Counts {
    async fn count(&self, request: impl Future<Output = reqwest::Response>) {
        let answer = async {
            let response = request.await;
            (response.status(), response.text().await.unwrap_or_default())
        };
        let counter = match timeout(PATIENCE, answer).await {
            Err(_) => &self.hung,
            Ok((_, body)) if body.contains("\"model_unavailable\"") => &self.told,
            Ok((StatusCode::OK, body)) if body.ends_with("data: [DONE]\n\n") => &self.answered,
            Ok(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn line(&self) -> String {
        let Self {
            answered,
            told,
            failed,
            hung,
        } = self;
        let [answered, told, failed, hung] =
            [answered, told, failed, hung].map(|count| count.load(Relaxed));
        format!(
            "{answered} answered, {told} told that the model is unavailable, {failed} failed otherwise, {hung} hung"
        )
    }

    /// Whether every request was answered, or told that the model is unavailable.
    fn are_told(&self) -> bool {
        self.failed.load(Relaxed) + self.hung.load(Relaxed) == 0
    }

    fn are_answered(&self) -> bool {
        self.are_told() && self.told.load(Relaxed) == 0
    }
}
