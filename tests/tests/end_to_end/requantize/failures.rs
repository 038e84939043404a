//! Changes of level that are impossible or fail.

use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::ServerOptions;

use super::{CHANGE, PLAIN, begin, check_refused, rest, start, write};

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
    server.wait_for_log("model ready again");
    assert_eq!(write(&client).await, "8".repeat(16));
    let (status, _) = client.post(CHANGE, &json!({"ggml_type": "Q4_K"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(write(&client).await, "4".repeat(16));
}
