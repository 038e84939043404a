//! Changing the level of a real model through llama.cpp: under load, back again, and when the disk or the process fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_tests::{
    Backend, Client, Event, Judge, PATIENCE, Server, ServerOptions, TOLERANCE, artifacts, smollm2,
};

const PLAIN: &str = "/v1/completions";
const CHANGE: &str = "/re_isq";
/// Long enough to last through a change.
const MAX_TOKENS: u32 = 160;

#[tokio::test]
#[ignore = "memory comes back to within 14 %, not 10 %: glibc keeps what was freed"]
async fn smollm2_streams_are_of_one_model_while_the_level_goes_down_and_up() {
    let cache = TempDir::new().unwrap();
    let (server, client) = start(cache.path(), "quantize = 'Q8_0'");
    let first = memory_bytes(server.pid());
    let to_q4 = texts_during(&client, "Q4K", "Q4_K_M").await;
    let to_q8 = texts_during(&client, "q8_0", "Q8_0").await;
    wait_for_memory(server.pid(), first).await;
    drop(server);

    let mut q8 = Judge::of(Backend::LlamaCpp, &file_at(cache.path(), "Q8_0"));
    let mut q4 = Judge::of(Backend::LlamaCpp, &file_at(cache.path(), "Q4_K_M"));
    for (prompt, text) in &to_q4 {
        assert!(q8.worst_gap(prompt, text) <= TOLERANCE, "{text}");
    }
    for (prompt, text) in &to_q8 {
        assert!(q4.worst_gap(prompt, text) <= TOLERANCE, "{text}");
    }
    // The judges can tell the two models apart.
    let apart = |(prompt, text): &(String, String)| q4.worst_gap(prompt, text) > TOLERANCE;
    assert!(to_q4.iter().any(apart));
}

#[tokio::test]
async fn smollm2_a_level_that_comes_back_is_the_same_to_the_byte() {
    let cache = TempDir::new().unwrap();
    let (server, client) = start(cache.path(), "");
    let (_, report) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    let warning =
        "the model's file is at Q4_1: Q8_0 takes more memory, but cannot restore what was lost";
    assert_eq!(
        (&report["from"], &report["warnings"]),
        (&json!("Q4_1"), &json!([warning]))
    );
    let (_, report) = client.post(CHANGE, &json!({"ggml_type": "Q4K"})).await;
    let fallbacks = report["warnings"][1].as_str().unwrap();
    assert!(
        fallbacks.contains("tensors are at another type than Q4_K_M"),
        "{fallbacks}"
    );
    let kept = file_at(cache.path(), "Q8_0");
    // The file is not in the cache when the level comes back.
    let before = fs::read(&kept).unwrap();
    fs::remove_file(&kept).unwrap();
    client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert!(before == fs::read(&kept).unwrap());
    drop(server);

    let written = cache.path().join("written.gguf");
    let output = quantize(&written, "q8_0").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(warning),
        "{output:?}"
    );
    assert!(before == fs::read(&written).unwrap());
    let again = quantize(&written, "Q8_0").output().unwrap();
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("exists already"),
        "{again:?}"
    );
}

#[tokio::test]
async fn smollm2_a_full_disk_is_told_and_changes_nothing() {
    let cache = TempDir::new().unwrap();
    let (server, client) = start(cache.path(), "");
    limit_files(server.pid(), "50000000");
    let (status, answer) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("the disk is full, or the limit on the size of files"),
        "{message}"
    );
    assert_eq!(files(cache.path()), Vec::<PathBuf>::new());
    assert_eq!(write(&client).await, StatusCode::OK);
    limit_files(server.pid(), "unlimited");
    let (status, report) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::OK, "{report}");
}

#[tokio::test]
async fn smollm2_half_a_file_of_a_killed_server_is_never_used() {
    let cache = TempDir::new().unwrap();
    let (server, client) = start(cache.path(), "");
    // This level takes the longest to make.
    let change = json!({"ggml_type": "IQ3_S"});
    let mut events = client.open("/re_isq?stream=true", &change).await;
    loop {
        match events.next().await.unwrap() {
            Event::Chunk(chunk) if chunk["fraction"].as_f64() > Some(0.1) => break,
            _ => {}
        }
    }
    server.signal("KILL");
    let left = files(cache.path());
    assert!(
        left.iter()
            .all(|path| path.extension().is_some_and(|it| it == "part")),
        "{left:?}"
    );
    assert_eq!(left.len(), 1);

    let (_server, client) = start(cache.path(), "");
    let (status, report) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!(files(cache.path()), [file_at(cache.path(), "Q8_0")]);
    assert_eq!(write(&client).await, StatusCode::OK);
}

#[tokio::test]
async fn smollm2_memory_for_two_is_estimated() {
    let cache = TempDir::new().unwrap();
    let (_server, client) = start(cache.path(), "memory_limit_bytes = 700_000_000");
    let (status, answer) = client.post(CHANGE, &json!({"ggml_type": "F32"})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (StatusCode::CONFLICT, &json!("not_enough_memory"))
    );
    let (status, answer) = client.post(CHANGE, &json!({"ggml_type": "Q2_K"})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

fn start(cache: &Path, model: &str) -> (Server, Client) {
    let config = format!(
        "[plugins]\ncache_directory = {cache:?}\n\
         [engine]\nthreads = 1\ncontext_length = 512\nkv_tokens = 4096\n\
         [[models]]\npath = {:?}\n{model}\n",
        smollm2()
    );
    let mut server = ServerOptions::new(&["tenon_plugin_llama_cpp"])
        .config(&config)
        .start();
    let client = server.client();
    (server, client)
}

/// Eight prompts and what is written for them by streams that began before the level is changed, and end after.
async fn texts_during(client: &Client, level: &str, named: &str) -> Vec<(String, String)> {
    let topics = [
        "sea", "moon", "king", "rain", "road", "tree", "city", "bird",
    ];
    let prompts =
        topics.map(|topic| format!("A long story about the {topic}:\n\nOnce upon a time"));
    let mut streams = Vec::new();
    for prompt in &prompts {
        let mut stream = client.open(PLAIN, &request(prompt, MAX_TOKENS)).await;
        let text = stream.next_text().await;
        streams.push((stream, text));
    }
    let change = json!({"ggml_type": level});
    let change = client.post(CHANGE, &change);
    let texts = join_all(
        streams
            .into_iter()
            .map(|(mut stream, mut text)| async move {
                while let Some(event) = stream.next().await {
                    if let Event::Chunk(chunk) = event {
                        assert!(chunk.get("error").is_none(), "{chunk}");
                        text.push_str(tenon_tests::text(&chunk));
                    }
                }
                text
            }),
    );
    let (texts, (status, report)) = tokio::join!(texts, change);
    assert_eq!(
        (status, &report["to"]),
        (StatusCode::OK, &json!(named)),
        "{report}"
    );
    prompts.into_iter().zip(texts).collect()
}

fn request(prompt: &str, max_tokens: u32) -> Value {
    json!({"prompt": prompt, "temperature": 0, "max_tokens": max_tokens})
}

async fn write(client: &Client) -> StatusCode {
    client.post(PLAIN, &request("Hello", 4)).await.0
}

fn quantize(output: &Path, level: &str) -> Command {
    let plugins = artifacts()
        .library("tenon_plugin_llama_cpp")
        .parent()
        .unwrap();
    let mut command = Command::new(&artifacts().tenon);
    command
        .arg("quantize")
        .args([&smollm2(), output])
        .arg(level);
    command
        .arg("--plugins")
        .arg(plugins)
        .args(["--backend", "llama-cpp"]);
    command
}

fn limit_files(pid: u32, bytes: &str) {
    let pid = pid.to_string();
    let limit = format!("--fsize={bytes}:");
    let status = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(status.expect("prlimit starts").success());
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let directory = cache.join("org.tenon.llama-cpp/quantized");
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn file_at(cache: &Path, level: &str) -> PathBuf {
    let end = format!("-{level}.gguf");
    let mut files = files(cache).into_iter();
    files
        .find(|path| path.to_string_lossy().ends_with(&end))
        .expect("the file of the level")
}

/// Memory of its own, and what is in memory of the model's file.
fn memory_bytes(pid: u32) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let own = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .and_then(kilobytes);
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut mapped = 0;
    let mut is_model = false;
    for line in maps.lines() {
        if line
            .split(' ')
            .next()
            .is_some_and(|first| first.contains('-'))
        {
            is_model = line.ends_with(".gguf") || line.ends_with(".gguf (deleted)");
        } else if is_model && line.starts_with("Rss:") {
            mapped += kilobytes(line).unwrap();
        }
    }
    (own.unwrap() + mapped) * 1024
}

/// The engine before ends a moment after its last stream.
async fn wait_for_memory(pid: u32, first: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = memory_bytes(pid);
        if now <= first + first / 10 {
            return;
        }
        assert!(Instant::now() < deadline, "{now} bytes, at first {first}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
