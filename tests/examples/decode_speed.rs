//! Decode speed at one thread, in turns: over HTTP with one client, through the ABI (`tenon bench engine`), and of llama-bench
//! where its path is given. Prints the medians and their ratios.
//!
//!     cargo run --release -p tenon-tests --example decode_speed -- [ROUNDS] [LLAMA_BENCH]

use std::{env, process::Command, time::Instant};

use futures_util::StreamExt;
use serde_json::json;
use tenon_tests::{Client, ServerOptions, artifacts, chat, smollm2};

const TOKENS: u32 = 128;

#[tokio::main]
async fn main() {
    let rounds = env::args()
        .nth(1)
        .map_or(5, |rounds| rounds.parse().expect("a number"));
    let llama_bench = env::args().nth(2);
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let (mut http, mut engine, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        http.push(over_http(&client).await);
        engine.push(through_the_abi());
        peer.extend(llama_bench.as_deref().map(of_llama_bench));
    }
    let (http, engine) = (median(http), median(engine));
    println!("decode of {TOKENS} tokens, tokens per second, medians of {rounds} rounds");
    println!("HTTP, one client    {http:.1}");
    println!("tenon bench engine  {engine:.1}");
    println!("HTTP / engine       {:.3}", http / engine);
    if !peer.is_empty() {
        let peer = median(peer);
        println!("llama-bench         {peer:.1}");
        println!("engine / llama      {:.3}", engine / peer);
    }
}

/// From the first token to the last.
async fn over_http(client: &Client) -> f64 {
    let parameters = json!({"temperature": 0, "max_tokens": TOKENS + 1, "stream": true, "stream_options": {"include_usage": true}});
    let request = chat("Write a long story about a lighthouse.", parameters);
    let response = client.send("/v1/chat/completions", &request).await;
    let mut bytes = response.bytes_stream();
    let (mut first, mut last, mut text) = (None, Instant::now(), String::new());
    while let Some(piece) = bytes.next().await {
        let piece = String::from_utf8_lossy(&piece.expect("a piece of the stream")).into_owned();
        if piece.contains("\"content\":\"") && !piece.contains("\"role\"") {
            last = Instant::now();
            first.get_or_insert(last);
        }
        text.push_str(&piece);
    }
    let tokens = text.split("\"completion_tokens\":").nth(1).expect("usage");
    let tokens: f64 = tokens
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    (tokens - 1.0) / (last - first.expect("a token")).as_secs_f64()
}

fn through_the_abi() -> f64 {
    let plugin = artifacts().library("tenon_plugin_llama_cpp");
    let mut command = Command::new(&artifacts().tenon);
    command.args(["bench", "engine", "--backend", "llama-cpp", "--plugins"]);
    command.arg(plugin.parent().expect("a directory"));
    rate(command.arg(smollm2()))
}

fn of_llama_bench(path: &str) -> f64 {
    rate(Command::new(path).arg("-m").arg(smollm2()))
}

/// The figure in the last column of the row `tg128`.
fn rate(command: &mut Command) -> f64 {
    // Both programs have these flags.
    let length = TOKENS.to_string();
    command.args(["-t", "1", "-p", "0", "-r", "1", "-n", &length]);
    let output = command.output().expect("the program starts");
    let table = String::from_utf8_lossy(&output.stdout);
    let row = table
        .lines()
        .find(|line| line.contains(&format!("tg{TOKENS}")));
    let row = row.unwrap_or_else(|| panic!("no figure in {table} {output:?}"));
    let cell = row
        .trim_end_matches([' ', '|'])
        .rsplit('|')
        .next()
        .expect("a cell");
    cell.trim()
        .split(' ')
        .next()
        .and_then(|rate| rate.parse().ok())
        .expect("a number")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
