//! `file` of `[responses]`: responses that outlive the server.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_tests::{Client, Event, Server, ServerOptions};

const RESPONSES: &str = "/v1/responses";

#[tokio::test]
async fn responses_are_continued_after_a_restart_by_their_client() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kept.db");
    let keys = "[server]\napi_keys = ['a', 'b']";
    let (server, client) = start(&file, keys);
    let first = post(&client.with_key("a"), &ask("One", json!({}))).await;
    assert_eq!(first["store"], true);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Dropping the server kills it.
    drop(server);

    let (mut server, client) = start(&file, keys);
    let (a, b) = (client.with_key("a"), client.with_key("b"));
    let path = format!("{RESPONSES}/{}", first["id"].as_str().unwrap());
    assert_eq!(a.get(&path).await, (StatusCode::OK, first.clone()));
    let previous = json!({"previous_response_id": first["id"]});
    let second = post(&a, &ask("Two", previous.clone())).await;
    assert_eq!(second["output"][0]["content"][0]["text"], "Two");
    assert!(second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
    // A client with another key does not find the response.
    assert_eq!(b.get(&path).await.0, StatusCode::NOT_FOUND);
    let (status, _) = b.post(RESPONSES, &ask("Two", previous)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let delete = |client: &Client| client.request(Method::DELETE, &path).send();
    assert_eq!(delete(&b).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(delete(&a).await.unwrap().status(), StatusCode::OK);
    server.signal("TERM");
    server.wait();

    let (_server, client) = start(&file, keys);
    assert_eq!(
        client.with_key("a").get(&path).await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let damaged = folder.path().join("damaged.db");
    fs::write(&damaged, "These are no responses. ".repeat(100)).unwrap();
    check_ends(&damaged, "it is damaged or no database");
    check_ends(
        &folder.path().join("missing/kept.db"),
        "No such file or directory",
    );
    check_ends(folder.path(), "Is a directory");
    let used = folder.path().join("used.db");
    let (_server, client) = start(&used, "");
    post(&client, &ask("One", json!({}))).await;
    check_ends(&used, "another program has it open");
}

/// The disk is full for files above a size, and has room for smaller ones.
#[tokio::test]
async fn a_response_without_room_says_so_and_the_server_goes_on() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder.path().join("kept.db"), "");
    // Programs are ended at the limit unless they ignore the signal.
    let mut server = options.ulimit("-f 600 && trap '' XFSZ").start();
    let client = server.client();
    let question = ask("Hi", json!({}));
    let kept = post(&client, &question).await;
    assert_eq!(
        (&kept["store"], &kept["warnings"]),
        (&json!(true), &Value::Null)
    );
    let mut large = question.clone();
    let long = "x".repeat(1 << 20);
    large["input"] = json!([
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": long},
        {"role": "user", "content": "Hi"},
    ]);
    large["truncation"] = json!("auto");
    let answer = post(&client, &large).await;
    assert_eq!(answer["store"], false, "{answer}");
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("was not kept"), "{warnings}");
    let path = |answer: &Value| format!("{RESPONSES}/{}", answer["id"].as_str().unwrap());
    assert_eq!(client.get(&path(&answer)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.get(&path(&kept)).await.0, StatusCode::OK);
    let mut events = client.open(RESPONSES, &large).await;
    let mut last = Value::Null;
    while let Some(event) = events.next().await {
        if let Event::Chunk(event) = event {
            last = event;
        }
    }
    assert_eq!(last["type"], "response.incomplete", "{last}");
    assert_eq!(last["response"]["store"], false, "{last}");
}

fn options(file: &Path, config: &str) -> ServerOptions {
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .config(&format!(
            "{config}\n[responses]\nmax_kept_bytes = 10000000\nfile = {file:?}\n[[models]]\npath = 'echo.echo'\n"
        ))
}

fn start(file: &Path, config: &str) -> (Server, Client) {
    let mut server = options(file, config).start();
    let client = server.client();
    (server, client)
}

/// Checks that a server with this file does not start, and names the file and the reason.
#[track_caller]
fn check_ends(file: &Path, reason: &str) {
    let mut server = options(file, "").spawn();
    assert!(!server.wait().success());
    let log = server.rest_of_log();
    assert!(
        log.contains(file.to_str().unwrap()) && log.contains(reason),
        "{log}"
    );
}

fn ask(text: &str, fields: Value) -> Value {
    let mut body = json!({"input": text, "temperature": 0, "max_output_tokens": text.len()});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    body
}

async fn post(client: &Client, body: &Value) -> Value {
    let (status, answer) = client.post(RESPONSES, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}
