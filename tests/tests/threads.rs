//! The threads of a model that nobody chose.

use serde_json::json;
use tenon_tests::{Backend, ServerOptions};

/// With at least two cores there is something to choose; with one core there is one thread.
async fn finds_out_how_many_are_fastest(backend: Backend) {
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let model = backend.smollm2();
    let arguments = [&*model.to_string_lossy(), "--threads", "auto"];
    let mut server = ServerOptions::new(&[backend.library()])
        .arguments(&arguments)
        .start();
    if cores > 1.0 {
        server.wait_for_log("decode runs on ");
    }
    let client = server.client();
    // Long enough for trials of the other choices.
    let parameters = json!({"temperature": 0, "max_tokens": 200});
    let story = client
        .chat("Write a long story about the sea.", parameters)
        .await;
    assert!(story.len() > 200, "{story}");
    for metric in [
        "tenon_engine_decode_threads",
        "tenon_engine_prefill_threads",
    ] {
        let threads = client.metric(metric).await;
        assert!((1.0..=cores).contains(&threads), "{metric} {threads}");
    }
}

#[tokio::test]
async fn llama_cpp_finds_out_how_many_threads_are_fastest() {
    finds_out_how_many_are_fastest(Backend::LlamaCpp).await;
}

/// With its own kernels; candle's have a pool that never changes.
#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn candle_finds_out_how_many_threads_are_fastest() {
    if is_x86_feature_detected!("avx2") {
        finds_out_how_many_are_fastest(Backend::CandleQuantized).await;
    }
}

#[tokio::test]
async fn a_fixed_number_stays() {
    let mut server = ServerOptions::echo(0)
        .arguments(&["--threads", "3"])
        .start();
    let client = server.client();
    client.chat("hello", json!({})).await;
    assert_eq!(client.metric("tenon_engine_decode_threads").await, 3.0);
    assert_eq!(
        client.metric("tenon_engine_thread_switches_total").await,
        0.0
    );
}
