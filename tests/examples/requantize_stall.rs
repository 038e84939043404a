//! The cost of changing a model's level. First measurement, for each backend, on one thread and on as many as it chooses:
//! the longest gap of a stream in units of its usual step, while eight streams run and the level changes (candle loads the
//! file dequantized to safetensors). Second measurement: the time to quantize SmolLM2 and write it on one thread, in turns
//! with llama-quantize if its path is given.
//!
//!     cargo run --release -p tenon-tests --example requantize_stall -- [ROUNDS] [LLAMA_QUANTIZE]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use futures_util::{FutureExt, future::join_all};
use serde_json::json;
use tempfile::TempDir;
use tenon_tests::{Backend, Client, Event, Events, ServerOptions, artifacts, smollm2, text};

const STREAMS: usize = 8;
const MAX_TOKENS: u32 = 1000;
/// How many steps of a stream are measured before the level changes.
const USUAL: usize = 50;
const LEVEL: &str = "Q8_0";

#[tokio::main]
async fn main() {
    let rounds = env::args()
        .nth(1)
        .map_or(5, |rounds| rounds.parse().expect("a number"));
    let llama_quantize = env::args().nth(2);
    println!(
        "{STREAMS} streams while SmolLM2 goes from its files to {LEVEL}, medians of {rounds} rounds"
    );
    for backend in Backend::ALL {
        for threads in ["1", "auto"] {
            let mut all = Vec::new();
            for _ in 0..rounds {
                all.push(stall(backend, threads).await);
            }
            let median =
                |value: fn(&Round) -> f64| median(&mut all.iter().map(value).collect::<Vec<_>>());
            let worst = all.iter().map(Round::stall).fold(0.0, f64::max);
            println!(
                "{backend:?}, threads {threads}: usual step {:.1} ms, longest stall {:.1} steps (worst round {worst:.1}), change {:.2} s",
                1000.0 * median(|round| round.usual),
                median(Round::stall),
                median(|round| round.change),
            );
        }
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(quantize(&mut tenon_quantize()));
        let peer = llama_quantize.as_deref().map(Command::new);
        theirs.extend(peer.map(|mut command| quantize(&mut command)));
    }
    println!("tenon quantize {:.3} s", median(&mut ours));
    if !theirs.is_empty() {
        println!(
            "llama-quantize {:.3} s, ratio {:.3}",
            median(&mut theirs),
            median(&mut ours) / median(&mut theirs)
        );
    }
}

struct Round {
    usual: f64,
    longest: f64,
    change: f64,
}

impl Round {
    /// The longest gap, in usual steps.
    fn stall(&self) -> f64 {
        self.longest / self.usual
    }
}

/// Measures with an empty cache, so that the level is really made, and without drafts, whose steps take longer than others.
async fn stall(backend: Backend, threads: &str) -> Round {
    let model = backend.smollm2();
    let mut server = ServerOptions::new(&[backend.library()])
        .arguments(&[&model.to_string_lossy(), "--threads", threads])
        .environment("XDG_CACHE_HOME", "")
        .environment("TENON__ENGINE__MAX_DRAFT_TOKENS", "0")
        .start();
    let client = server.client();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let request = json!({"prompt": "A long story:\n\nOnce upon a time", "temperature": 0, "max_tokens": MAX_TOKENS});
        streams.push(client.open("/v1/completions", &request).await);
    }
    let usual = streams
        .iter_mut()
        .map(|stream| steps(stream, |count| count < USUAL));
    let mut gaps = join_all(usual).await.concat();
    let changed = AtomicBool::new(false);
    let go_on = |_| !changed.load(Ordering::Relaxed);
    let during = join_all(streams.iter_mut().map(|stream| steps(stream, go_on)));
    let change = change(&client).inspect(|_| changed.store(true, Ordering::Relaxed));
    let (change, during) = tokio::join!(change, during);
    Round {
        usual: median(&mut gaps),
        longest: during.concat().into_iter().fold(0.0, f64::max),
        change,
    }
}

async fn change(client: &Client) -> f64 {
    let (status, report) = client.post("/re_isq", &json!({"ggml_type": LEVEL})).await;
    assert!(status.is_success(), "{report}");
    report["seconds"].as_f64().expect("seconds")
}

/// Seconds between the texts of a stream, for as long as `go_on` is true of their count.
async fn steps(stream: &mut Events, go_on: impl Fn(usize) -> bool) -> Vec<f64> {
    let (mut last, mut gaps) = (Instant::now(), Vec::new());
    while go_on(gaps.len()) {
        match stream.next().await {
            Some(Event::Chunk(chunk)) if !text(&chunk).is_empty() => {
                gaps.push(last.elapsed().as_secs_f64());
                last = Instant::now();
            }
            Some(_) => {}
            None => break,
        }
    }
    gaps
}

fn tenon_quantize() -> Command {
    let plugins = artifacts()
        .library("tenon_plugin_llama_cpp")
        .parent()
        .expect("a directory");
    let mut command = Command::new(&artifacts().tenon);
    command.arg("quantize").arg("--plugins").arg(plugins).args([
        "--backend",
        "llama-cpp",
        "--threads",
        "1",
    ]);
    command
}

/// Seconds that a program takes to quantize, its start included. Both programs take input, output and level in this order.
fn quantize(command: &mut Command) -> f64 {
    let directory = TempDir::new().expect("a temporary directory");
    let output = directory.path().join("quantized.gguf");
    let is_ours = command.get_args().len() > 0;
    if !is_ours {
        command.arg("--allow-requantize");
    }
    command.arg(smollm2()).arg(&output).arg(LEVEL);
    if !is_ours {
        // Number of threads of llama-quantize.
        command.arg("1");
    }
    let started = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("the program starts").success());
    synced(&output);
    started.elapsed().as_secs_f64()
}

/// Writes the file to the disk. llama-quantize leaves that to the system; for a fair comparison both files are synced.
fn synced(path: &Path) {
    let file = fs::File::open(path).expect("the quantized file");
    file.sync_all().expect("a disk");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
