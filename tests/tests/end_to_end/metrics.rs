//! The page of metrics: the figures under Tenon's names and under vLLM's, and the formats.

use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::{
    Method, Response,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, metric_in};

const CHAT: &str = "/v1/chat/completions";
const PAGE: &str = include_str!("../../../config/METRICS.md");

#[tokio::test]
async fn the_figures_follow_from_the_requests() {
    let (_server, client) = start("max_draft_tokens = 0");
    let mut cached = 0;
    // Four tokens of each prompt are the template's.
    for (message, parameters) in [
        ("Hi", json!({"temperature": 0})),
        ("Hi", json!({"temperature": 0})),
        ("Hello", json!({"temperature": 0, "max_tokens": 3})),
    ] {
        let (_, answer) = client.post(CHAT, &chat(message, parameters)).await;
        let details = &answer["usage"]["prompt_tokens_details"];
        cached += details["cached_tokens"].as_u64().unwrap();
    }
    assert!(cached > 0);
    let page = client.get_text("/metrics").await;
    let kv_blocks = metric_in(&page, "tenon_engine_kv_total_tokens") as u64 / 16;
    for (name, label, value) in [
        ("prompt_tokens_total", "", 6 + 6 + 9),
        ("request_prompt_tokens_sum", "", 6 + 6 + 9),
        ("request_prompt_tokens_count", "", 3),
        ("generation_tokens_total", "", 2 + 2 + 3),
        ("request_generation_tokens_sum", "", 2 + 2 + 3),
        ("request_generation_tokens_count", "", 3),
        ("request_success_total", r#"finished_reason="stop","#, 2),
        ("request_success_total", r#"finished_reason="length","#, 1),
        ("request_queue_time_seconds_count", "", 3),
        ("time_to_first_token_seconds_count", "", 3),
        ("inter_token_latency_seconds_count", "", 1 + 1 + 2),
        ("request_time_per_output_token_seconds_count", "", 3),
        ("e2e_request_latency_seconds_count", "", 3),
        ("prefix_cache_queries_total", "", 6 + 6 + 9),
        ("prefix_cache_hits_total", "", cached),
        ("spec_decode_num_draft_tokens_total", "", 0),
        ("num_preemptions_total", "", 0),
    ] {
        let line = format!(r#"vllm:{name}{{engine="0",{label}model_name="echo"}} {value}"#);
        assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
    }
    let pool = format!(
        r#"vllm:cache_config_info{{engine="0",model_name="echo",block_size="16",num_gpu_blocks="{kv_blocks}"}} 1"#
    );
    assert!(page.lines().any(|l| l == pool), "no {pool} in:\n{page}");
}

#[tokio::test]
async fn the_gauges_show_who_runs_and_who_waits() {
    let (_server, client) = start("max_draft_tokens = 0\nmax_sequences = 1");
    let mut running = client.open(CHAT, &greedy(&"x".repeat(4000))).await;
    running.next_text().await;
    let waiting = client.open(CHAT, &greedy("I can wait")).await;
    client
        .wait_for_metric("vllm:num_requests_waiting", 1.0)
        .await;
    let page = client.get_text("/metrics").await;
    assert_eq!(metric_in(&page, "vllm:num_requests_running"), 1.0);
    let used = metric_in(&page, "tenon_engine_kv_running_tokens");
    assert!(used > 4000.0, "{used}");
    let share = used / metric_in(&page, "tenon_engine_kv_total_tokens");
    assert_eq!(metric_in(&page, "vllm:kv_cache_usage_perc"), share);

    drop(running);
    assert_eq!(waiting.all_text().await, "I can wait");
    for (name, value) in [
        ("vllm:num_requests_waiting", 0.0),
        ("vllm:num_requests_running", 0.0),
        ("vllm:request_queue_time_seconds_count", 2.0),
        // One answer was aborted, and one stopped.
        ("vllm:request_success_total", 2.0),
        ("vllm:e2e_request_latency_seconds_count", 1.0),
        ("vllm:kv_cache_usage_perc", 0.0),
    ] {
        client.wait_for_metric(name, value).await;
    }
    // The cached prefixes are not in use.
    assert!(client.metric("tenon_engine_kv_used_tokens").await > 0.0);
}

/// Several sequences that share a prefix use its part of the pool once.
#[tokio::test]
async fn a_shared_prefix_is_used_once() {
    let (_server, client) = start("max_draft_tokens = 0");
    let mut body = greedy(&"x".repeat(3000));
    body["n"] = json!(3);
    let mut events = client.open(CHAT, &body).await;
    client
        .wait_for_metric("tenon_engine_running_sequences", 3.0)
        .await;
    events.next_text().await;
    let used = client.metric("tenon_engine_kv_running_tokens").await;
    assert!((3000.0..8000.0).contains(&used), "{used}");
}

#[tokio::test]
async fn both_names_show_the_same() {
    let (_server, client) = start("max_draft_tokens = 32");
    let message = "The same text again and again. ".repeat(8);
    for _ in 0..3 {
        client.post(CHAT, &greedy(&message)).await;
    }
    let page = client.get_text("/metrics").await;
    assert!(metric_in(&page, "vllm:spec_decode_num_accepted_tokens_total") > 0.0);
    let mut compared = 0;
    for (theirs, ours) in rows() {
        for theirs in &theirs {
            assert!(page.contains(&format!("# TYPE {theirs} ")), "no {theirs}");
        }
        if let ([theirs], [ours]) = (&theirs[..], &ours[..]) {
            for part in ["", "_count", "_sum"] {
                let value = |name| metric_in(&page, &format!("{name}{part}"));
                assert_eq!(value(theirs), value(ours), "{theirs}{part}");
            }
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared}");
}

#[tokio::test]
async fn the_readme_has_every_metric() {
    let (_server, client) = start("[server]\napi_keys = ['a']\n");
    let client = client.with_key("a");
    client.chat("Hi", json!({"temperature": 0})).await;
    let page = client.get_text("/metrics").await;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let rows: Vec<_> = rows()
        .into_iter()
        .flat_map(|(theirs, ours)| theirs.into_iter().chain(ours))
        .collect();
    let missing: Vec<_> = names.filter(|name| !rows.contains(name)).collect();
    assert!(missing.is_empty(), "not in config/METRICS.md: {missing:?}");
}

#[tokio::test]
async fn clients_get_the_format_that_they_ask_for() {
    let (_server, client) = start("");
    client.chat("Hi", json!({"temperature": 0})).await;
    for (accept, is_open) in [
        ("*/*", false),
        ("text/plain;version=0.0.4", false),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;q=0.4,text/plain", false),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            true,
        ),
    ] {
        let request = client.request(Method::GET, "/metrics");
        let response = request.header(ACCEPT, accept).send().await.unwrap();
        let content_type = match is_open {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4",
        };
        assert_eq!(header(&response, CONTENT_TYPE.as_str()), content_type);
        let page = response.text().await.unwrap();
        assert_eq!(page.ends_with("# EOF\n"), is_open, "{page}");
        let total = "# TYPE vllm:prompt_tokens_total counter\n";
        assert_eq!(page.contains(total), !is_open, "{page}");
        let stem = "# TYPE vllm:prompt_tokens counter\n";
        assert_eq!(page.contains(stem), is_open, "{page}");
        assert_eq!(metric_in(&page, "vllm:prompt_tokens_total"), 6.0);
        assert_eq!(
            metric_in(&page, "vllm:time_to_first_token_seconds_count"),
            1.0
        );
    }
}

#[tokio::test]
async fn clients_that_accept_gzip_get_it() {
    let (_server, client) = start("");
    let request = client.request(Method::GET, "/metrics");
    let response = request.header(ACCEPT_ENCODING, "gzip").send().await;
    let response = response.unwrap();
    assert_eq!(header(&response, CONTENT_ENCODING.as_str()), "gzip");
    let bytes = response.bytes().await.unwrap();
    let mut page = String::new();
    GzDecoder::new(&bytes[..])
        .read_to_string(&mut page)
        .unwrap();
    assert!(page.contains("vllm:num_requests_waiting"), "{page}");

    let response = client.request(Method::GET, "/metrics").send().await;
    assert!(!response.unwrap().headers().contains_key(CONTENT_ENCODING));
}

fn start(config: &str) -> (Server, Client) {
    let config = format!("[engine]\n{config}\n");
    let mut server = ServerOptions::echo(10).config(&config).start();
    let client = server.client();
    (server, client)
}

fn greedy(message: &str) -> Value {
    chat(message, json!({"temperature": 0}))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// vLLM's names and Tenon's names in each row of the table in `config/METRICS.md`.
fn rows() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter(|row| row.contains("`tenon_") || row.contains("`vllm:"));
    rows.map(|row| {
        let mut cells = row.split(" | ").map(names);
        (cells.next().unwrap(), cells.next().unwrap())
    })
    .collect()
}

fn names(cell: &str) -> Vec<&str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter(|text| !text.contains(' ')).collect()
}
