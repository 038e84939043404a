//! Changing the level of a real model through llama.cpp: to another level and back, and with a failing disk or process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tenon_tests::{Client, Event, Server, ServerOptions, artifacts, smollm2};

const CHANGE: &str = "/re_isq";
const LLAMA_CPP: &str = "tenon_plugin_llama_cpp";

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
        fallbacks.contains("tensors at another type than Q4_K_M"),
        "{fallbacks}"
    );
    let kept = file_at(cache.path(), "Q8_0");
    // The cached file is missing when the level comes back.
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
    limit_files(server.worker(), "50000000");
    let (status, answer) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("the disk is full, or the limit on the size of files"),
        "{message}"
    );
    assert_eq!(files(cache.path()), Vec::<PathBuf>::new());
    assert_eq!(write(&client).await, StatusCode::OK);
    limit_files(server.worker(), "unlimited");
    let (status, report) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::OK, "{report}");
}

#[tokio::test]
async fn smollm2_half_a_file_of_a_killed_server_is_never_used() {
    let cache = TempDir::new().unwrap();
    let (server, client) = start(cache.path(), "");
    // Making this level takes the longest.
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

#[test]
fn smollm2_quantize_can_be_interrupted_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let mut child = quantize(&folder.path().join("written.gguf"), "IQ3_S")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let files = || fs::read_dir(folder.path()).unwrap().count();
    while files() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it wrote nothing");
    }
    let pid = child.id().to_string();
    let interrupted = Command::new("kill").args(["-INT", &pid]).status();
    assert!(interrupted.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cancelled"), "{error}");
    assert_eq!((output.status.code(), files()), (Some(2), 0));
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
    let mut server = ServerOptions::new(&[LLAMA_CPP]).config(&config).start();
    let client = server.client();
    (server, client)
}

async fn write(client: &Client) -> StatusCode {
    let request = json!({"prompt": "Hello", "max_tokens": 4});
    client.post("/v1/completions", &request).await.0
}

fn quantize(output: &Path, level: &str) -> Command {
    let plugins = artifacts().library(LLAMA_CPP).parent().unwrap();
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
