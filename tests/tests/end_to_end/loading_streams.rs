//! Streams begin while their model is still being loaded, so that no proxy on the way closes them.

use std::fs;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions};

const LEVELS: &str = "tenon_fixture_levels";

/// The streaming routes, each with the rest of a request and the beginning of the event of an error.
fn routes() -> [(&'static str, Value, &'static str); 4] {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let openai = "data: {\"error\":{";
    let named = "event: error\ndata: {";
    [
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 3}),
            openai,
        ),
        (
            "/v1/completions",
            json!({"prompt": "Hi", "max_tokens": 3}),
            openai,
        ),
        (
            "/v1/responses",
            json!({"input": "Hi", "max_output_tokens": 3}),
            named,
        ),
        (
            "/v1/messages",
            json!({"messages": messages, "max_tokens": 3}),
            named,
        ),
    ]
}

#[tokio::test]
async fn comments_come_until_the_model_is_loaded_and_then_the_answer() {
    for (path, body, _) in routes() {
        let (server, client) = start("late");
        let mut response = open(&client, path, body).await;
        let mut text = read_comments(&mut response).await;
        fs::write(server.home().join("go"), "").unwrap();
        while let Some(piece) = response.chunk().await.unwrap() {
            text += std::str::from_utf8(&piece).unwrap();
        }
        let answer = text.trim_start_matches(": loading\n\n");
        assert!(answer.contains("data: {"), "{path}: {text}");
        assert!(!answer.contains("error\":{"), "{path}: {text}");
        assert!(!answer.contains(": loading"), "{path}: {text}");
    }
}

#[tokio::test]
async fn an_error_after_the_head_is_an_event() {
    for (path, mut body, error) in routes() {
        let (server, client) = start("late");
        // Only the model can tell that this is longer than its context.
        let long = "x".repeat(10_000);
        match body.get_mut("messages") {
            Some(messages) => messages[0]["content"] = json!(long),
            None if body.get("input").is_some() => body["input"] = json!(long),
            None => body["prompt"] = json!(long),
        }
        let mut response = open(&client, path, body).await;
        let mut text = read_comments(&mut response).await;
        fs::write(server.home().join("go"), "").unwrap();
        while let Some(piece) = response.chunk().await.unwrap() {
            text += std::str::from_utf8(&piece).unwrap();
        }
        let answer = text.trim_start_matches(": loading\n\n");
        assert!(answer.starts_with(error), "{path}: {answer}");
        assert!(answer.contains("context"), "{path}: {answer}");
        assert_eq!(
            answer.ends_with("data: [DONE]\n\n"),
            path != "/v1/messages",
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_error_before_the_head_has_its_own_status() {
    let (_server, client) = start("late");
    for (path, mut body, _) in routes() {
        body["stream"] = json!(true);
        body["model"] = json!("unknown");
        let (status, answer) = client.post(path, &body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
}

/// A server of a model of the fixture, which is loaded on demand.
fn start(name: &str) -> (Server, Client) {
    let file = format!("{name}.levels");
    let keys = "load = 'on-demand'\nchat_template = 'chat.jinja'";
    let config =
        format!("[server]\nkeep_alive_interval_ms = 100\n[[models]]\npath = '{file}'\n{keys}\n");
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let mut server = ServerOptions::new(&[LEVELS])
        .file(&file, "")
        .file("chat.jinja", template)
        .config(&config)
        .spawn();
    let client = server.client();
    (server, client)
}

async fn open(client: &Client, path: &str, mut body: Value) -> Response {
    body["stream"] = json!(true);
    body["model"] = json!("late");
    let response = client.send(path, &body).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    response
}

/// Reads until several comments have come.
async fn read_comments(response: &mut Response) -> String {
    let mut text = String::new();
    while text.matches(": loading\n\n").count() < 3 {
        let piece = response.chunk().await.unwrap().expect("a comment");
        text += std::str::from_utf8(&piece).unwrap();
    }
    text
}
