//! Models that do not fit into memory together.

use reqwest::StatusCode;
use serde_json::json;

use super::{CHANGE, PLAIN, begin, check_refused, options, request, rest, start, write};

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
async fn models_before_count_while_requests_run_on_them() {
    let (_server, client) = start("plain", "quantize = 'Q4_K'\nmemory_limit_bytes = 1_500_000");
    let stream = begin(&client, 8000).await;
    let change = async |level: &str| client.post(CHANGE, &json!({"ggml_type": level})).await.0;
    assert_eq!(change("Q8_0").await, StatusCode::OK);
    let message = "on which requests still run, take about 2000000 bytes, 500000 more than";
    check_refused(&client, "Q4_K", 409, "not_enough_memory", message).await;
    drop(stream);
    // The stream's model ends a moment later, and after each change the earlier model does too.
    for level in ["Q4_K", "Q8_0", "Q4_K"] {
        assert_eq!(change(level).await, StatusCode::OK);
    }
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
async fn in_place_too_only_one_change_at_a_time() {
    let limit = "memory_limit_bytes = 2_100_000\nrequantize = 'in-place'";
    let (_server, client) = start("plain", limit);
    let stream = begin(&client, 8000).await;
    let change = json!({"ggml_type": "Q8_0"});
    let second = async {
        while client.get("/v1/models").await.1["data"] != json!([]) {}
        let (status, _) = client.post(PLAIN, &request(1)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let busy = "is being changed already";
        check_refused(&client, "Q4_K", 409, "requantize_running", busy).await;
        drop(stream);
    };
    let (_, (status, report)) = tokio::join!(second, client.post(CHANGE, &change));
    assert_eq!((status, &report["to"]), (StatusCode::OK, &json!("Q8_0")));
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
