//! Changing the level of a model that is being served. The models of the plugin show their level in what they write.

mod changes;
mod failures;
mod memory;

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Event, Events, Server, ServerOptions};

const PLAIN: &str = "/v1/completions";
const CHANGE: &str = "/re_isq";

fn options(name: &str, model: &str) -> ServerOptions {
    let file = format!("{name}.levels");
    ServerOptions::new(&["tenon_fixture_levels"])
        .config(&format!("[[models]]\npath = '{file}'\n{model}\n"))
        .file(&file, "")
}

fn start(name: &str, model: &str) -> (Server, Client) {
    let mut server = options(name, model).start();
    let client = server.client();
    (server, client)
}

fn request(max_tokens: u32) -> Value {
    json!({"prompt": "Hi", "temperature": 0, "max_tokens": max_tokens})
}

/// A stream whose first letter has arrived.
async fn begin(client: &Client, max_tokens: u32) -> Events {
    let mut stream = client.open(PLAIN, &request(max_tokens)).await;
    stream.next_text().await;
    stream
}

/// Reads the rest of a stream.
async fn rest(mut stream: Events) -> String {
    let mut text = String::new();
    let mut reasons = BTreeSet::new();
    while let Some(event) = stream.next().await {
        if let Event::Chunk(chunk) = event {
            assert!(chunk.get("error").is_none(), "{chunk}");
            text.push_str(tenon_tests::text(&chunk));
            reasons.extend(
                chunk["choices"][0]["finish_reason"]
                    .as_str()
                    .map(str::to_owned),
            );
        }
    }
    assert_eq!(reasons, BTreeSet::from(["length".to_owned()]));
    text
}

async fn write(client: &Client) -> String {
    let (status, answer) = client.post(PLAIN, &request(16)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    tenon_tests::text(&answer).to_owned()
}

async fn check_refused(client: &Client, level: &str, status: u16, code: &str, message: &str) {
    let (answered, answer) = client.post(CHANGE, &json!({"ggml_type": level})).await;
    let error = &answer["error"];
    assert_eq!(
        (answered.as_u16(), &error["code"]),
        (status, &json!(code)),
        "{answer}"
    );
    assert!(
        error["message"].as_str().unwrap().contains(message),
        "{answer}"
    );
}
