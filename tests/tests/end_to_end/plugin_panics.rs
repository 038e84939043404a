//! A plugin that panics while it serves: its requests fail, its model is loaded again, and the server lives.

use std::{fs, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Held, PATIENCE, Server, ServerOptions};
use tokio::time::{sleep, timeout};

const PLAIN: &str = "/v1/completions";
const WHY: &str = "the plugin panicked: told to panic in forward";

#[tokio::test]
async fn without_a_worker_a_model_is_loaded_anew_once_and_then_has_failed() {
    let (mut server, client) = start("isolation = 'none'");
    check_failed(&client, "model_unavailable", WHY, true).await;
    server.wait_for_log("loading the model anew");
    // Nothing keeps the model that broke in memory.
    server.wait_for_log("a tokenizer is gone");
    assert_eq!(client.get("/health").await.1["status"], "ok");

    check_failed(&client, "model_unavailable", WHY, true).await;
    server.wait_for_log("the model stopped");
    let message = format!("the model 'forward' failed: {WHY}");
    check_failed(&client, "model_failed", &message, false).await;

    let (status, health) = client.get("/health").await;
    assert_eq!(status, StatusCode::OK);
    let models = json!([
        {"id": "echo", "status": "ok"},
        {"id": "forward", "status": "failed", "error": WHY},
    ]);
    assert_eq!(health, json!({"status": "degraded", "models": models}));
    let (_, list) = client.get("/v1/models").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
}

/// The file of the model may be another one by then.
#[tokio::test]
async fn a_model_that_is_loaded_anew_has_its_new_context() {
    let (mut server, client) = start("isolation = 'none'");
    fs::write(server.home().join("forward.panics"), "8").unwrap();
    check_failed(&client, "model_unavailable", WHY, true).await;
    server.wait_for_log("a tokenizer is gone");
    let asked = json!({"model": "forward", "prompt": "a longer prompt"});
    let (status, answer) = client.post(PLAIN, &asked).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("8 tokens"), "{message}");
}

#[tokio::test]
async fn a_model_that_is_loaded_anew_takes_the_place_of_the_broken_one_in_memory() {
    const WEIGHTS: u64 = 200_000_000;
    let options = ServerOptions::new(&["tenon_fixture_panics"]);
    let options = options.file("forward.panics", &format!("64 {WEIGHTS}"));
    let config = "[engine]\nisolation = 'none'\n[[models]]\npath = 'forward.panics'\n";
    let mut server = options.config(config).start();
    let client = server.client();
    let megabytes = WEIGHTS / 1_000_000;
    let before = Held::by(&server).resident_mb;
    assert!(before > megabytes, "{before}");

    check_failed(&client, "model_unavailable", WHY, true).await;
    server.wait_for_log("a tokenizer is gone");
    let is_as_before = || Held::by(&server).resident_mb.abs_diff(before) < megabytes / 2;
    let comes_back = async {
        while !is_as_before() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let came_back = timeout(PATIENCE / 4, comes_back).await.is_ok();
    let now = Held::by(&server).resident_mb;
    assert!(came_back, "{before} → {now} megabytes");
}

#[tokio::test]
async fn with_a_worker_a_model_is_loaded_again_up_to_a_limit() {
    let (mut server, client) = start("max_restarts = 2");
    for restarts in 1..=2 {
        check_failed(&client, "model_unavailable", WHY, true).await;
        while restarts_of_forward(&client).await < restarts {
            sleep(Duration::from_millis(5)).await;
        }
    }
    check_failed(&client, "model_unavailable", WHY, true).await;
    server.wait_for_log("model failed");
    let why = format!("it ended 3 times within ten minutes, the last time because {WHY}");
    let message = format!("the model 'forward' failed: {why}");
    check_failed(&client, "model_failed", &message, false).await;
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
}

#[tokio::test]
async fn a_stream_ends_with_the_error() {
    let (_server, client) = start("");
    let stream = client.stream(PLAIN, &request()).await;
    let error = json!({"error": {
        "message": WHY, "type": "server_error", "param": null, "code": "model_unavailable",
    }});
    assert_eq!(stream.chunks, [error]);
    assert!(stream.done);
}

/// The host keeps a ledger of the granted tokens. It uses no more of them than its own limit.
#[tokio::test]
async fn a_session_that_has_no_end_is_used_as_far_as_there_is_memory() {
    let options = ServerOptions::new(&["tenon_fixture_panics"]);
    let options = options
        .file("grant.panics", "")
        .arguments(&["grant.panics"]);
    let mut server = options.start();
    let client = server.client();
    assert_eq!(
        client.metric("tenon_engine_kv_total_tokens").await,
        16_777_216.0
    );
    let asked = json!({"prompt": "Hi", "max_tokens": 3});
    let (status, answer) = client.post(PLAIN, &asked).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// A server of an echo model and a model that panics. `keys` are those of `[engine]`.
fn start(keys: &str) -> (Server, Client) {
    let config = format!(
        "[engine]\n{keys}\n[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'forward.panics'\n"
    );
    let options = ServerOptions::new(&["tenon_plugin_echo", "tenon_fixture_panics"]);
    let options = options.file("echo.echo", "").file("forward.panics", "");
    let mut server = options.config(&config).spawn();
    server.wait_for_log(r#"model ready model="forward""#);
    let client = server.client();
    (server, client)
}

fn request() -> Value {
    json!({"model": "forward", "prompt": "Hi"})
}

async fn restarts_of_forward(client: &Client) -> u64 {
    let (_, models) = client.get("/admin/models").await;
    models["data"][1]["restarts"].as_u64().unwrap()
}

async fn check_failed(client: &Client, code: &str, message: &str, later: bool) {
    let response = client.send(PLAIN, &request()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers().contains_key("retry-after"), later);
    let answer: Value = response.json().await.unwrap();
    let error = json!({"error": {
        "message": message, "type": "server_error", "param": null, "code": code,
    }});
    assert_eq!(answer, error);
}
