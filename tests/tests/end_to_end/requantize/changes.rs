//! The effect of a change of level, and its report.

use std::fs;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::{Event, PATIENCE, ends_within};

use super::{CHANGE, begin, check_refused, rest, start, write};

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
async fn a_plugin_that_cannot_change_levels_loads_the_model_again_beside() {
    let (server, client) = start("fixed", "");
    let worker = server.worker();
    let stream = begin(&client, 300).await;
    let (status, report) = client.post(CHANGE, &json!({"ggml_type": "Q4K"})).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!(
        (&report["from"], &report["to"]),
        (&json!("F16"), &json!("Q4_K"))
    );
    assert_eq!(write(&client).await, "4".repeat(16));
    assert_eq!(rest(stream).await, "1".repeat(299));
    assert!(ends_within(worker, PATIENCE), "the old worker runs on");

    let worker = server.worker();
    let (status, answer) = client.post(CHANGE, &json!({"ggml_type": "Q5_0"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(write(&client).await, "4".repeat(16));
    assert_eq!(server.worker(), worker);
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

/// Each change begins at the level where the previous change ended, even if changes overlap.
#[tokio::test]
async fn changes_one_after_the_other_are_a_chain() {
    let (_server, client) = start("plain", "");
    let levels = ["F16", "Q8_0", "Q4_K"];
    let ask = async |first: usize| {
        let mut reports = Vec::new();
        for level in levels.iter().cycle().skip(first).take(60) {
            let (status, report) = client.post(CHANGE, &json!({"ggml_type": level})).await;
            match status {
                StatusCode::OK => reports.push(report),
                status => assert_eq!(status, StatusCode::CONFLICT, "{report}"),
            }
        }
        reports
    };
    let reports = join_all((0..6).map(ask)).await.concat();
    let (_, model) = client.get("/v1/models/plain").await;
    let count = |key: &str, level: &str| reports.iter().filter(|it| it[key] == level).count();
    for level in levels {
        // Each level is reached as often as it is left, except where the chain begins and ends.
        let came = count("to", level) + usize::from(level == "F16");
        let left = count("from", level) + usize::from(model["quantization"] == level);
        assert_eq!(came, left, "{level} of {}", reports.len());
    }
    assert_eq!(client.metric("tenon_model_level").await, 1.0);
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
async fn a_model_is_loaded_at_the_configured_level() {
    let (_server, client) = start("plain", "quantize = 'q4_k'");
    assert_eq!(write(&client).await, "4".repeat(16));
}
