//! A client that disconnects frees its sequence, and nobody else notices.

use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const RUNNING: &str = "tenon_engine_running_sequences";
const WAITING: &str = "tenon_engine_waiting_sequences";
const KV_USED: &str = "tenon_engine_kv_used_tokens";

/// Length in tokens of an answer that nobody waits for. At 10 ms each it takes far longer than a test.
const LONG: usize = 4000;

#[tokio::test]
async fn a_cut_stream_frees_its_sequence() {
    let (_server, client) = start("");
    let mut events = client.open(CHAT, &long()).await;
    // The gauges describe the last step that was begun. The step of the second text found the first text's sequence.
    events.next_text().await;
    events.next_text().await;
    assert_eq!(client.metric(RUNNING).await, 1.0);
    assert!(client.metric(KV_USED).await > LONG as f64);
    drop(events);
    check_freed(&client, 1).await;
}

#[tokio::test]
async fn a_cut_plain_request_frees_its_sequence() {
    let (_server, client) = start("");
    check_cut_request_is_freed(&client).await;
}

#[tokio::test]
async fn a_step_that_nobody_waits_for_is_interrupted() {
    const HOUR_MS: u32 = 3_600_000;
    let mut server = ServerOptions::echo(HOUR_MS).start();
    let client = server.client();
    check_cut_request_is_freed(&client).await;
}

#[tokio::test]
async fn a_client_may_leave_while_it_waits() {
    let (_server, client) = start("max_sequences = 1\n");
    let mut running = client.open(CHAT, &long()).await;
    running.next_text().await;
    let waiting = client.open(CHAT, &long()).await;
    client.wait_for_metric(WAITING, 1.0).await;
    drop(waiting);
    client.wait_for_metric(WAITING, 0.0).await;
    assert_eq!(client.metric(RUNNING).await, 1.0);
}

#[tokio::test]
async fn other_streams_are_not_disturbed() {
    let (_server, client) = start("");
    let mut leaving = Vec::new();
    for _ in 0..3 {
        leaving.push(client.open(CHAT, &long()).await);
    }
    let message = "Nobody hears of those who leave. ".repeat(3);
    let staying = tokio::spawn({
        let (client, body) = (
            client.clone(),
            chat(&message, json!({"temperature": 0, "cache_prompt": false})),
        );
        async move { client.stream(CHAT, &body).await }
    });
    client.wait_for_metric(RUNNING, 4.0).await;
    for mut events in leaving {
        events.next_text().await;
    }
    let stream = staying.await.expect("a stream");
    assert_eq!(stream.text(), message);
    assert_eq!(stream.finish_reason(), Some("stop"));
    check_freed(&client, 3).await;
}

fn start(config: &str) -> (Server, Client) {
    // With drafts the answer would be finished too soon.
    let config = format!("[engine]\nmax_draft_tokens = 0\n{config}");
    let mut server = ServerOptions::echo(10).config(&config).start();
    let client = server.client();
    (server, client)
}

fn long() -> Value {
    chat(
        &"x".repeat(LONG),
        json!({"temperature": 0, "cache_prompt": false}),
    )
}

/// Sends a plain request, and leaves while it runs.
async fn check_cut_request_is_freed(client: &Client) {
    let request = tokio::spawn({
        let client = client.clone();
        async move { client.post(CHAT, &long()).await }
    });
    client.wait_for_metric(RUNNING, 1.0).await;
    request.abort();
    check_freed(client, 1).await;
}

async fn check_freed(client: &Client, cancelled: usize) {
    client.wait_for_metric(RUNNING, 0.0).await;
    client.wait_for_metric(KV_USED, 0.0).await;
    // The sequences did not end because they were finished.
    let generated = client.metric("tenon_engine_generated_tokens_total").await;
    assert!(generated < LONG as f64, "{generated} tokens");
    let metrics = client.get_text("/metrics").await;
    let line = format!(
        r#"tenon_generation_seconds_count{{model="echo",outcome="cancelled"}} {cancelled}"#
    );
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}
