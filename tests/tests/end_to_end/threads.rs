//! The number of threads of a model if it is not configured.

use serde_json::json;
use tenon_tests::{Backend, ServerOptions};

/// With at least two cores there is a choice; with one core there is one thread.
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

/// With the kernels of `candle-common`: candle's own kernels have a pool that never changes.
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
        .arguments(&["--threads", "1"])
        .start();
    let client = server.client();
    client.chat("hello", json!({})).await;
    assert_eq!(client.metric("tenon_engine_decode_threads").await, 1.0);
    assert_eq!(
        client.metric("tenon_engine_thread_switches_total").await,
        0.0
    );
}

/// The number comes once from a flag, and once from a model's entry in the configuration.
#[tokio::test]
async fn of_more_threads_than_cores_as_many_are_taken() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let llama_cpp = Backend::LlamaCpp;
    let model = llama_cpp.smollm2();
    let flag = ServerOptions::new(&[llama_cpp.library()]).arguments(&[
        &model.to_string_lossy(),
        "--threads",
        "1000",
    ]);
    let candle = Backend::CandleQuantized;
    let entry = format!(
        "[[models]]\npath = {:?}\nthreads = 1000\n",
        candle.smollm2()
    );
    let entry = ServerOptions::new(&[candle.library()]).config(&entry);
    for options in [flag, entry] {
        let mut server = options.start();
        let warning = format!("1000 threads were asked for, but there are {cores} cores");
        server.wait_for_log(&warning);
        let client = server.client();
        client.chat("hello", json!({"max_tokens": 2})).await;
        let threads = client.metric("tenon_engine_decode_threads").await;
        assert_eq!(threads, cores as f64);
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.worker())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"));
        let threads: usize = line.unwrap().trim().parse().unwrap();
        assert!(threads < 40 + 10 * cores, "{threads} threads");
    }
}
