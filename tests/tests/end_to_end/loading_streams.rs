//! Streams begin while their model is still being loaded, so that no proxy on the way closes them.

use std::fs;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions};

const LEVELS: &str = "tenon_fixture_levels";
const COMMENT: &str = ": loading\n\n";

/// The beginning of the event of an error, in OpenAI's form and in those with named events.
const PLAIN_ERROR: &str = "data: {\"error\":{";
const NAMED_ERROR: &str = "event: error\ndata: {";

/// The streaming routes, each with a request with this text and the beginning of the event of an error.
fn routes(text: &str) -> [(&'static str, Value, &'static str); 4] {
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"messages": messages, "max_tokens": 3});
    let prompt = json!({"prompt": text, "max_tokens": 3});
    let input = json!({"input": text, "max_output_tokens": 3});
    [
        ("/v1/chat/completions", chat.clone(), PLAIN_ERROR),
        ("/v1/completions", prompt, PLAIN_ERROR),
        ("/v1/responses", input, NAMED_ERROR),
        ("/v1/messages", chat, NAMED_ERROR),
    ]
}

#[tokio::test]
async fn comments_come_until_the_model_is_loaded_and_then_the_answer() {
    for (path, body, _) in routes("Hi") {
        let answer = loaded_late(path, body).await;
        assert!(answer.contains("data: {"), "{path}: {answer}");
        assert!(!answer.contains("error\":{"), "{path}: {answer}");
        assert!(!answer.contains(": loading"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_error_after_the_head_is_an_event() {
    // This text is longer than the context, which is known only when the model is loaded.
    let long = "x".repeat(10_000);
    for (path, body, error) in routes(&long) {
        let answer = loaded_late(path, body).await;
        assert!(answer.starts_with(error), "{path}: {answer}");
        assert!(answer.contains("context"), "{path}: {answer}");
        let ends = answer.ends_with("data: [DONE]\n\n");
        assert_eq!(ends, path != "/v1/messages", "{answer}");
    }
}

#[tokio::test]
async fn an_error_before_the_head_has_its_own_status() {
    let (_server, client) = start();
    for (path, mut body, _) in routes("Hi") {
        body["stream"] = json!(true);
        body["model"] = json!("unknown");
        let (status, answer) = client.post(path, &body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
}

/// What a stream sends after its comments, if its model is loaded after several comments.
async fn loaded_late(path: &str, body: Value) -> String {
    let (server, client) = start();
    let mut response = open(&client, path, body).await;
    let mut text = String::new();
    while text.matches(COMMENT).count() < 3 {
        let piece = response.chunk().await.unwrap().expect("a comment");
        text += std::str::from_utf8(&piece).unwrap();
    }
    assert_eq!(text.replace(COMMENT, ""), "");
    fs::write(server.home().join("go"), "").unwrap();
    while let Some(piece) = response.chunk().await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
    }
    text.trim_start_matches(COMMENT).to_owned()
}

/// A server of a model that waits to be loaded until there is a file `go`.
fn start() -> (Server, Client) {
    let keys = "load = 'on-demand'\nchat_template = 'chat.jinja'";
    let server = "[server]\nkeep_alive_interval_ms = 100";
    let config = format!("{server}\n[[models]]\npath = 'late.levels'\n{keys}\n");
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let mut server = ServerOptions::new(&[LEVELS])
        .file("late.levels", "")
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
