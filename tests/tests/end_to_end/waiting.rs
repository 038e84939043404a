//! What clients receive while they wait, and when they are told to try again later.

use std::{fs, process::Command};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Event, Events, ServerOptions, chat, text};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_silent_stream_sends_comments() {
    let options = ServerOptions::echo(300).environment("KEEP_ALIVE_INTERVAL", "50");
    let mut server = options.start();
    let client = server.client();
    let plain = json!({"prompt": "<|user|>Hi<|end|><|assistant|>", "temperature": 0});
    for (path, body) in [(CHAT, greedy("Hi")), (PLAIN, plain)] {
        let comments = comments_before_texts(client.open(path, &body).await).await;
        assert_eq!(comments.len(), 2);
        assert!(!comments.contains(&0), "{comments:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_silent_sends_none() {
    let mut server = ServerOptions::echo(0).start();
    let stream = server.client().stream(CHAT, &greedy("Hi")).await;
    assert_eq!(stream.comments, 0);
}

#[tokio::test]
async fn a_full_queue_sends_away_and_those_in_it_get_their_turn() {
    let config = "[engine]\nmax_sequences = 1\nmax_queue = 1\nmax_draft_tokens = 0\n";
    let mut server = ServerOptions::echo(20).config(config).start();
    let client = server.client();
    let mut running = client.open(CHAT, &greedy(&"x".repeat(4000))).await;
    running.next_text().await;
    let waiting = client.open(CHAT, &greedy("I can wait")).await;
    for stream in [false, true] {
        let mut body = greedy("I cannot");
        body["stream"] = json!(stream);
        let refused = client.send(CHAT, &body).await;
        let error = check_later(refused, StatusCode::TOO_MANY_REQUESTS).await;
        assert_eq!(error["type"], "rate_limit_error");
        assert_eq!(error["code"], "queue_full");
    }
    drop(running);
    assert_eq!(waiting.all_text().await, "I can wait");
}

#[tokio::test]
async fn a_model_that_is_still_loading_sends_away() {
    // The echo plugin reads a model's file to its end. This file is a pipe that ends when the test closes it.
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("slow.echo");
    assert!(
        Command::new("mkfifo")
            .arg(&model)
            .status()
            .unwrap()
            .success()
    );
    let options = ServerOptions::new(&["tenon_plugin_echo"]);
    let mut server = options.arguments(&[model.to_str().unwrap()]).spawn();
    let client = server.client();

    let refused = client.send(CHAT, &greedy("Hi")).await;
    let error = check_later(refused, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(error["code"], "model_loading");
    let (status, health) = client.get("/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let models = json!([{"id": "slow", "status": "loading"}]);
    assert_eq!(health, json!({"status": "loading", "models": models}));
    let (status, ready) = client.get("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready, json!({"status": "loading"}));
    assert_eq!(client.get("/health/live").await.0, StatusCode::OK);
    let (_, list) = client.get("/v1/models").await;
    assert_eq!(list["data"], json!([]));

    fs::write(&model, "0").unwrap();
    server.wait_for_log("model ready");
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    for path in ["/health", "/health/ready"] {
        assert_eq!(client.get(path).await.0, StatusCode::OK);
    }
}

fn greedy(message: &str) -> Value {
    chat(message, json!({"temperature": 0}))
}

/// For each piece of text, the number of comments since the piece before.
async fn comments_before_texts(mut events: Events) -> Vec<usize> {
    let (mut counts, mut comments) = (Vec::new(), 0);
    while let Some(event) = events.next().await {
        match event {
            Event::Comment => comments += 1,
            Event::Chunk(chunk) if !text(&chunk).is_empty() => {
                counts.push(std::mem::take(&mut comments));
            }
            _ => {}
        }
    }
    counts
}

/// Checks that the answer says when to try again. Returns its error.
async fn check_later(response: Response, expected: StatusCode) -> Value {
    assert_eq!(response.status(), expected);
    let seconds = response.headers()["retry-after"].to_str().unwrap();
    assert!(seconds.parse::<u32>().unwrap() > 0, "{seconds}");
    let mut answer: Value = response.json().await.unwrap();
    answer["error"].take()
}
