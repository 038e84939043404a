//! `tenon bench`: it runs against a server, and its counts are right. No test checks how fast anything is.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{Client, Server, ServerOptions, artifacts};

#[tokio::test]
async fn tokens_and_requests_are_counted_as_the_server_counts_them() {
    check_counts("chat").await;
}

#[tokio::test]
async fn responses_are_measured_as_chats_are() {
    check_counts("responses").await;
}

#[tokio::test]
async fn messages_are_measured_as_chats_are() {
    check_counts("messages").await;
}

async fn check_counts(api: &str) {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let before = counters(&client).await;
    let loads = "--loads throughput --clients 1,3 --requests 2 --rounds 2 --output-tokens 32";
    let report = bench(&mut server, &format!("{loads} --api {api}"));
    // Two additional requests measure the length of words.
    let requests = 2.0 + (1.0 + 3.0) * 2.0 * 2.0;
    let tokens = 2.0 + (requests - 2.0) * 32.0;
    let after = counters(&client).await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (requests, tokens));
    for measurement in measurements(&report) {
        assert_eq!(values(measurement, "answers that ended early"), [0.0, 0.0]);
        for positive in [
            "output tokens/s",
            "requests/s",
            "TTFT p50, ms",
            "ITL p99, ms",
        ] {
            assert!(values(measurement, positive)[0] > 0.0, "{measurement}");
        }
    }
}

#[tokio::test]
async fn long_prompts_have_the_length_asked_for() {
    let mut server = ServerOptions::echo(1).start();
    let loads = "--loads prefix,long-prompt,copy,short-prompts --streams 2 --rounds 1 --prefix-tokens 700 --long-prompt-tokens 3000";
    let report = bench(&mut server, loads);
    let lengths: Vec<_> = measurements(&report)
        .filter(|measurement| measurement["load"] != "copy")
        .map(|measurement| values(measurement, "prompt tokens")[0])
        .collect();
    // Words of echo have different lengths.
    assert!((lengths[0] - 700.0).abs() < 70.0, "{lengths:?}");
    assert!((lengths[1] - 3000.0).abs() < 300.0, "{lengths:?}");
    assert!((lengths[2] - 3000.0).abs() < 300.0, "{lengths:?}");
    // The first step of the long prompt falls into at least one gap of each of the two streams.
    let long_prompt =
        measurements(&report).find(|measurement| measurement["load"] == "long_prompt");
    assert!(values(long_prompt.unwrap(), "gaps")[0] >= 2.0);
}

#[tokio::test]
async fn smollm2_is_asked_for_a_schema_through_each_api() {
    for api in ["chat", "responses", "messages"] {
        let mut server = ServerOptions::smollm2().start();
        let loads = format!(
            "--api {api} --loads schema --streams 1 --requests 1 --rounds 1 --output-tokens 12"
        );
        let report = bench(&mut server, &loads);
        let schema = measurements(&report).next().unwrap();
        assert_eq!(values(schema, "answers that ended early"), [0.0]);
        let compiled = server
            .client()
            .metric("tenon_grammar_compile_seconds_count")
            .await;
        assert!(compiled > 0.0, "{api}");
    }
}

#[tokio::test]
async fn two_servers_are_given_the_same() {
    let (mut first, mut second) = (
        ServerOptions::echo(0).start(),
        ServerOptions::echo(0).start(),
    );
    let versus = format!(
        "--versus {} --loads throughput --clients 2 --rounds 1",
        second.address()
    );
    bench(&mut first, &versus);
    let (first, second) = (
        counters(&first.client()).await,
        counters(&second.client()).await,
    );
    assert_eq!(first, second);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let output = Command::new(&artifacts().tenon)
        .args(["bench", "http", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("http://127.0.0.1:1"), "{error}");
}

#[test]
fn an_engine_is_measured_at_several_batch_sizes() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("m.echo");
    std::fs::write(&model, "").unwrap();
    let library = artifacts().library("tenon_plugin_echo");
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::os::unix::fs::symlink(library, plugins.join("echo.so")).unwrap();
    let output = Command::new(&artifacts().tenon)
        .args([
            "bench",
            "engine",
            "-p",
            "700",
            "-n",
            "4",
            "-r",
            "1",
            "-b",
            "1,3",
            "--plugins",
        ])
        .args([&plugins, &model])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    for test in [" pp700 |", " tg4 |", " pp700 x3 |", " tg4 x3 |"] {
        assert!(table.contains(test), "no {test} in {table}");
    }
}

/// The report of `tenon bench http` for a server.
fn bench(server: &mut Server, arguments: &str) -> Value {
    let output = Command::new(&artifacts().tenon)
        .args(["bench", "http", &server.address(), "--json"])
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn measurements(report: &Value) -> impl Iterator<Item = &Value> {
    report["measurements"].as_array().unwrap().iter()
}

/// The values of a figure for the first server, one for each round.
fn values(measurement: &Value, figure: &str) -> Vec<f64> {
    let figures = measurement["figures"].as_array().unwrap();
    let row = figures.iter().find(|row| row["name"] == figure);
    let values = &row.unwrap_or_else(|| panic!("no {figure} in {measurement}"))["values"][0];
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

/// The numbers of requests and of completion tokens, as the server counts them.
async fn counters(client: &Client) -> (f64, f64) {
    let requests = client.metric("tenon_generation_seconds_count").await;
    (
        requests,
        client.metric("tenon_completion_tokens_total").await,
    )
}
