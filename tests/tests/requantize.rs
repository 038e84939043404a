//! Changing the level of a model that is being served, with a plugin whose models show their level in what they write.

use std::{collections::BTreeSet, fs};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Event, Events, Server, ServerOptions};

const PLAIN: &str = "/v1/completions";
const CHANGE: &str = "/re_isq";
const POOL: &str = "tenon_engine_kv_total_tokens";

#[tokio::test]
async fn streams_under_way_keep_their_model_and_new_ones_get_the_new() {
    let (server, client) = start("waits", "");
    fs::write(server.home().join("go"), "").unwrap();
    let one_pool = client.metric(POOL).await;
    for (from, level, to, letters) in [
        ("F16", "q8-0", "Q8_0", ('1', '8')),
        ("Q8_0", "Q4K", "Q4_K", ('8', '4')),
        ("Q4_K", "Q8_0", "Q8_0", ('4', '8')),
    ] {
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(begin(&client, 300).await);
        }
        let (status, report) = client.post(CHANGE, &json!({"ggml_type": level})).await;
        assert_eq!(status, StatusCode::OK, "{report}");
        assert_eq!((&report["from"], &report["to"]), (&json!(from), &json!(to)));
        assert_eq!(write(&client).await, letters.1.to_string().repeat(16));
        for text in join_all(streams.into_iter().map(rest)).await {
            assert_eq!(text, letters.0.to_string().repeat(299));
        }
    }
    // The old engines end with their last stream.
    client.wait_for_metric(POOL, one_pool).await;
}

#[tokio::test]
async fn the_answer_says_what_was_done_and_the_model_list_shows_it() {
    let (_server, client) = start("plain", "");
    let (_, report) = client
        .post(CHANGE, &json!({"ggml_type": "Q4K", "model": "plain"}))
        .await;
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    let expected = json!({
        "object": "requantize.report", "model": "plain", "from": "F16", "to": "Q4_K",
        "weight_bytes_before": 2_000_000, "weight_bytes_after": 500_000,
        "seconds": report["seconds"], "warnings": [],
    });
    assert_eq!(report, expected);
    let (_, model) = client.get("/v1/models/plain").await;
    assert_eq!(model["quantization"], "Q4_K");
    assert_eq!(model["requantize_levels"], json!(["F16", "Q8_0", "Q4_K"]));

    let (status, again) = client.post(CHANGE, &json!({"ggml_type": "Q4_K"})).await;
    assert_eq!(
        (status, &again["from"], &again["to"]),
        (StatusCode::OK, &json!("Q4_K"), &json!("Q4_K"))
    );

    let metrics = client.get_text("/metrics").await;
    for line in [
        r#"tenon_model_level{level="Q4_K",model="plain"} 1"#,
        r#"tenon_model_weight_bytes{model="plain"} 500000"#,
        r#"tenon_requantize_seconds_count{model="plain",outcome="finished"} 2"#,
    ] {
        assert!(metrics.contains(line), "no {line}");
    }
    assert!(!metrics.contains(r#"level="F16""#));
}

#[tokio::test]
async fn progress_comes_as_a_stream() {
    let (_server, client) = start("plain", "");
    let mut events = client
        .open("/re_isq?stream=true", &json!({"ggml_type": "Q8_0"}))
        .await;
    let progress = json!({"object": "requantize.progress", "message": "half-way", "fraction": 0.5});
    assert_eq!(events.next().await, Some(Event::Chunk(progress)));
    let Some(Event::Chunk(report)) = events.next().await else {
        panic!("no report");
    };
    assert_eq!(
        (&report["object"], &report["to"]),
        (&json!("requantize.report"), &json!("Q8_0"))
    );
    assert_eq!(events.next().await, Some(Event::Done));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn only_one_change_at_a_time_and_it_goes_on_without_the_client() {
    let (server, client) = start("waits", "");
    let mut events = client
        .open("/re_isq?stream=true", &json!({"ggml_type": "Q8_0"}))
        .await;
    events.next().await.unwrap();
    check_refused(
        &client,
        "Q4_K",
        409,
        "requantize_running",
        "is being changed already",
    )
    .await;
    drop(events);
    check_refused(
        &client,
        "Q4_K",
        409,
        "requantize_running",
        "is being changed already",
    )
    .await;
    fs::write(server.home().join("go"), "").unwrap();
    client
        .wait_for_metric("tenon_requantize_seconds_count", 1.0)
        .await;
    assert_eq!(write(&client).await, "8".repeat(16));
}

#[tokio::test]
async fn the_end_of_the_server_does_not_wait_for_a_change() {
    let (mut server, client) = start("waits", "");
    let mut events = client
        .open("/re_isq?stream=true", &json!({"ggml_type": "Q8_0"}))
        .await;
    events.next().await.unwrap();
    server.signal("TERM");
    let mut last = None;
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event {
            last = Some(chunk);
        }
    }
    assert_eq!(last.unwrap()["error"]["code"], "draining");
    assert!(server.wait().success());
}

#[tokio::test]
async fn levels_that_cannot_be_are_refused_with_those_that_can() {
    let (_server, client) = start("plain", "");
    for (level, message) in [
        (
            "Q9",
            "there is no quantization level \"Q9\": use one of F16, Q8_0, Q4_K",
        ),
        (
            "IQ2_S",
            "this model cannot be quantized to IQ2_S: use one of F16, Q8_0, Q4_K",
        ),
    ] {
        let (status, answer) = client.post(CHANGE, &json!({"ggml_type": level})).await;
        let error = json!({"error": {
            "message": message, "type": "invalid_request_error", "param": "ggml_type", "code": null,
        }});
        assert_eq!((status, answer), (StatusCode::BAD_REQUEST, error));
    }
    let (status, answer) = client.post(CHANGE, &json!({})).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("ggml_type"))
    );
    let (status, _) = client
        .post("/re_isq?stream=perhaps", &json!({"ggml_type": "Q8_0"}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let unknown = json!({"ggml_type": "Q8_0", "model": "nope"});
    assert_eq!(client.post(CHANGE, &unknown).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_backend_without_levels_says_so() {
    let mut server = ServerOptions::echo(0).start();
    let message = "this model cannot be quantized to Q4_K: its backend has no levels";
    let (status, answer) = server
        .client()
        .post(CHANGE, &json!({"ggml_type": "Q4K"}))
        .await;
    assert_eq!(
        (status, &answer["error"]["message"]),
        (StatusCode::BAD_REQUEST, &json!(message))
    );
}

#[tokio::test]
async fn a_failure_is_told_and_the_old_model_goes_on() {
    for (name, message) in [
        ("fails", "told to fail half-way"),
        ("panics", "the plugin panicked: told to panic half-way"),
    ] {
        let (_server, client) = start(name, "");
        let stream = begin(&client, 100).await;
        check_refused(&client, "Q8_0", 500, "requantize_failed", message).await;
        assert_eq!(rest(stream).await, "1".repeat(99));
        assert_eq!(write(&client).await, "1".repeat(16));
        assert_eq!(
            client.get("/v1/models").await.1["data"][0]["quantization"],
            "F16"
        );
    }
}

/// The object that panicked is not called again, but the file can be loaded at the level.
#[tokio::test]
async fn after_a_panic_the_level_can_still_be_changed() {
    let (_server, client) = start("panics", "");
    check_refused(&client, "Q8_0", 500, "requantize_failed", "told to panic").await;
    let (status, report) = client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!((status, &report["to"]), (StatusCode::OK, &json!("Q8_0")));
    assert_eq!(write(&client).await, "8".repeat(16));
}

#[tokio::test]
async fn a_plugin_that_breaks_comes_back_at_the_current_level() {
    let (mut server, client) = start("plain", "");
    client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await;
    let (status, _) = client.post(PLAIN, &json!({"prompt": "Break!"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    server.wait_for_log("loading the model anew");
    assert_eq!(write(&client).await, "8".repeat(16));
    let (status, _) = client.post(CHANGE, &json!({"ggml_type": "Q4_K"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(write(&client).await, "4".repeat(16));
}

#[tokio::test]
async fn a_model_is_loaded_at_the_configured_level() {
    let (_server, client) = start("plain", "quantize = 'q4_k'");
    assert_eq!(write(&client).await, "4".repeat(16));
}

#[tokio::test]
async fn two_models_that_do_not_fit_are_refused_with_what_is_missing() {
    // Q4_K takes 500,000 bytes and Q8_0 takes 1,000,000.
    let (_server, client) = start("plain", "quantize = 'Q4_K'\nmemory_limit_bytes = 1_499_999");
    let message = "take about 1500000 bytes, 1 more than the model's memory_limit_bytes of 1499999";
    check_refused(&client, "Q8_0", 409, "not_enough_memory", message).await;
    let (_server, client) = start("plain", "quantize = 'Q4_K'\nmemory_limit_bytes = 1_500_000");
    assert_eq!(
        client.post(CHANGE, &json!({"ggml_type": "Q8_0"})).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn in_place_the_old_model_finishes_before_it_goes() {
    let limit = "memory_limit_bytes = 2_100_000\nrequantize = 'in-place'";
    let (_server, client) = start("plain", limit);
    let stream = begin(&client, 200).await;
    let change = json!({"ggml_type": "Q8_0"});
    let (stream, (status, report)) = tokio::join!(rest(stream), client.post(CHANGE, &change));
    assert_eq!((status, &report["to"]), (StatusCode::OK, &json!("Q8_0")));
    assert_eq!(stream, "1".repeat(199));
    assert_eq!(write(&client).await, "8".repeat(16));
}

#[tokio::test]
async fn in_place_a_failure_brings_the_old_level_back() {
    let limit = "memory_limit_bytes = 2_100_000\nrequantize = 'in-place'";
    let (_server, client) = start("stuck", limit);
    check_refused(
        &client,
        "Q8_0",
        500,
        "requantize_failed",
        "told not to load Q8_0",
    )
    .await;
    assert_eq!(write(&client).await, "1".repeat(16));
    assert_eq!(
        client.get("/v1/models").await.1["data"][0]["quantization"],
        "F16"
    );
}

#[tokio::test]
async fn a_model_that_is_too_large_is_not_loaded() {
    let options = options("plain", "memory_limit_bytes = 1_999_999");
    let mut server = options.spawn();
    server
        .wait_for_log("it takes about 2000000 bytes, more than its memory_limit_bytes of 1999999");
    assert!(!server.wait().success());
}

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

/// A stream whose first letter has come.
async fn begin(client: &Client, max_tokens: u32) -> Events {
    let mut stream = client.open(PLAIN, &request(max_tokens)).await;
    stream.next_text().await;
    stream
}

/// What is still to come of a stream.
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
