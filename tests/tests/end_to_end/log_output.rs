//! A log that cannot be written, or that nobody reads, does not delay the server.

use std::{fs::OpenOptions, io::Read, process::Stdio, thread, time::Duration};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions};

const LOST: &str = "tenon_log_lines_lost_total";

#[tokio::test]
async fn a_full_disk_holds_nothing_up() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (server, client) = start(echo_and_panics(), full.into()).await;
    serve_and_stop(server, client).await;
}

#[tokio::test]
async fn a_closed_pipe_holds_nothing_up() {
    let (mut server, client) = start(echo_and_panics(), Stdio::piped()).await;
    drop(server.take_log());
    serve_and_stop(server, client).await;
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_nothing_up() {
    let (mut server, client) = start(echo_and_panics(), Stdio::piped()).await;
    let _log = server.take_log();
    flood(&client).await;
    serve_and_stop(server, client).await;
}

#[tokio::test]
async fn lost_lines_are_told_of_when_there_is_room_again() {
    let (mut server, client) = start(echo_and_panics(), Stdio::piped()).await;
    let mut log = server.take_log();
    flood(&client).await;
    let reader = thread::spawn(move || {
        let mut read = String::new();
        log.read_to_string(&mut read).unwrap();
        read
    });
    check_serves(&client).await;
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let read = reader.join().unwrap();
    assert!(read.contains("log lines were lost"));
}

#[tokio::test]
async fn what_libraries_write_by_themselves_becomes_log_lines() {
    let mut server = echo_and_panics()
        .environment("TENON__SERVER__LOG_FORMAT", "json")
        .spawn();
    server.wait_for_log(r#""model":"forward""#);
    let client = server.client();
    check_panics(&client).await;
    let line = server.wait_for_log("panicked at");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["target"], "output", "{line}");
}

#[tokio::test]
async fn long_texts_of_clients_are_cut() {
    let config = "[[models]]\npath = 'echo.echo'\n";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .config(config)
        .start();
    let client = server.client();
    let long = "y".repeat(5000);
    let request = client.request(Method::GET, &format!("/begin{}", "x".repeat(60_000)));
    let answer = request.header("x-request-id", &long).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"].len(), 200);
    assert!(answer.text().await.unwrap().len() < 1000);
    let line = server.wait_for_log("/begin");
    assert!(line.len() < 1000, "{line}");

    for body in [
        json!({"prompt": "a", "model": "z".repeat(1 << 20)}),
        json!({"prompt": "a", "grammar": {"type": "regex", "value": "(a".repeat(200_000)}}),
        json!({"prompt": "a", "grammar": {"type": "lark", "value": "start: ".repeat(50_000)}}),
        json!({"prompt": "a", "stop": {"z".repeat(100_000): 1}}),
    ] {
        let answer = client.send("/v1/completions", &body).await;
        assert!(answer.status().is_client_error());
        let text = answer.text().await.unwrap();
        assert!(text.len() < 3000, "{}", text.len());
    }
    server.signal("TERM");
    let log = server.rest_of_log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 5000, "{longest}");
}

/// Sends so many requests that neither the pipe nor the queue of lines can hold the log.
async fn flood(client: &Client) {
    let path = format!("/{}", "x".repeat(190));
    while client.metric(LOST).await == 0.0 {
        let asked = (0..100).map(|_| client.request(Method::GET, &path).send());
        for answer in join_all(asked).await {
            assert_eq!(answer.unwrap().status(), StatusCode::NOT_FOUND);
        }
    }
}

/// A server with two models. One of them panics whenever it computes, and its plugin prints that to the standard error.
fn echo_and_panics() -> ServerOptions {
    let config = "[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'forward.panics'\n";
    ServerOptions::new(&["tenon_plugin_echo", "tenon_fixture_panics"])
        .file("echo.echo", "")
        .file("forward.panics", "")
        .config(config)
}

async fn start(options: ServerOptions, log: Stdio) -> (Server, Client) {
    let mut server = options.log_to(log).spawn();
    let client = server.client();
    loop {
        let health = client.request(Method::GET, "/health").send().await;
        match health {
            Ok(answer) if answer.status() == StatusCode::OK => return (server, client),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_and_stop(mut server: Server, client: Client) {
    check_serves(&client).await;
    check_panics(&client).await;
    check_serves(&client).await;
    assert!(client.metric(LOST).await > 0.0);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

async fn check_serves(client: &Client) {
    let answer = client.chat("Hi", json!({"temperature": 0})).await;
    assert_eq!(answer, "Hi");
}

async fn check_panics(client: &Client) {
    let body = json!({"model": "forward", "prompt": "Hi"});
    let (status, answer) = client.post("/v1/completions", &body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
}
