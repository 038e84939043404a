//! A backend that computes asynchronously notices in `sample` that a forward failed. The sequence is computed again, and the host
//! knows what is stored.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, text};

const PLAIN: &str = "/v1/completions";
const RECOMPUTED: &str = "tenon_engine_preemptions_total";

#[tokio::test]
async fn a_sequence_that_is_lost_once_is_computed_again() {
    for model in ["pick-lose-once", "sample-lose-once"] {
        let (_server, client) = start(model, "3");
        let (status, answer) = client.post(PLAIN, &ask("Go!", 8)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(text(&answer), "xxxxxxxx");
        assert_eq!(client.metric(RECOMPUTED).await, 1.0, "{model}");
        // Nothing of the lost sequence is left behind.
        let stored = client.metric("tenon_engine_kv_used_tokens").await;
        assert_eq!(stored, 10.0, "{model}");
    }
}

#[tokio::test]
async fn a_sequence_that_is_lost_again_and_again_fails() {
    for model in ["pick-lose", "sample-lose"] {
        let (_server, client) = start(model, "3");
        let (status, answer) = client.post(PLAIN, &ask("Go!", 8)).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("SEQUENCE_LOST"), "{message}");
        assert_eq!(client.metric(RECOMPUTED).await, 2.0, "{model}");
    }
}

#[tokio::test]
async fn a_sample_that_is_stopped_leaves_the_spans_stored() {
    let (mut server, client) = start("sample-stop", "3");
    let mut stream = client.open(PLAIN, &ask("Go!", 100)).await;
    for _ in 0..3 {
        assert_eq!(stream.next_text().await, "x");
    }
    // Only a sample that runs can be stopped.
    server.wait_for_log("waits to be stopped");
    drop(stream);
    client
        .wait_for_metric("tenon_engine_running_sequences", 0.0)
        .await;
    // This continues the sequence itself, whose length the host must know.
    let (status, answer) = client.post(PLAIN, &ask("Go!xxxxxx", 3)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(text(&answer), "xxx");
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(cached, 5, "{answer}");
    assert_eq!(client.metric(RECOMPUTED).await, 0.0);
}

/// A server of a model of the fixture, whose steps have one token each. `spared` calls go well before the fault.
fn start(model: &str, spared: &str) -> (Server, Client) {
    let config = format!("[[models]]\npath = '{model}.crashes'\nmax_draft_tokens = 0\n");
    let options = ServerOptions::new(&["tenon_fixture_crashes"]);
    let options = options.file(&format!("{model}.crashes"), spared);
    let mut server = options.config(&config).start();
    let client = server.client();
    (server, client)
}

fn ask(prompt: &str, max_tokens: u32) -> Value {
    json!({"prompt": prompt, "max_tokens": max_tokens})
}
