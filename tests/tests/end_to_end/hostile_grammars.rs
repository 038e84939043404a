//! Grammars that would take unbounded time, stack or memory. They are refused, and other requests are not affected.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, text};
use tokio::time::{sleep, timeout};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn whatever_a_grammar_does_the_next_one_is_compiled() {
    let (mut server, client) = start("compile_timeout_ms = 700\ncompile_threads = 2\n");
    let hostile = hostile_grammars();
    for (index, pair) in hostile.chunks(2).enumerate() {
        let requests = pair.iter().map(|(name, fields)| {
            let body = chat("x", fields.clone());
            let client = &client;
            async move { (name, client.post(CHAT, &body).await) }
        });
        for (name, (status, answer)) in join_all(requests).await {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            let is_told = ["within 700 ms", "memory or stack", "too many expressions"].iter();
            let is_told = is_told.filter(|reason| message.contains(**reason)).count();
            assert_eq!(is_told, 1, "{name}: {message}");
        }
        check_good(&client, index).await;
    }
    server.signal("TERM");
    assert!(server.wait().success());
}

/// Each grammar is small, but compiles for far too long, or ends the process that compiles it.
fn hostile_grammars() -> Vec<(&'static str, Value)> {
    let grammar = |kind: &str, value: Value| json!({"grammar": {"type": kind, "value": value}});
    let times = |many: usize, part: &dyn Fn(usize) -> String, between: &str| {
        let parts: Vec<_> = (0..many).map(part).collect();
        parts.join(between)
    };
    let intersection = times(60, &|at| format!("/(?s:.*)a.{{{at}}}b(?s:.*)/"), " & ");
    let intersection = format!("start: T\nT: {intersection}");
    let chain = times(
        9000,
        &|at| format!("r{at}: \"a\" r{} | \"b\"", at + 1),
        "\n",
    );
    let chain = format!("start: r0\n{chain}\nr9000: \"x\"");
    let terminals = times(
        9000,
        &|at| format!("T{at}: \"a\" T{} | \"b\"", at + 1),
        "\n",
    );
    let terminals = format!("start: T0\n{terminals}\nT9000: \"x\"");
    let patterns = (0..200).map(|at| json!({"type": "string", "pattern": format!("a.{{{at}}}b")}));
    let patterns = json!({"allOf": patterns.collect::<Vec<_>>()});
    let parameters = json!({"type": "object", "properties": {"a": patterns}, "required": ["a"]});
    let function = json!({"name": "f", "parameters": parameters, "strict": true});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": patterns}});
    vec![
        ("an intersection", grammar("lark", json!(intersection))),
        ("patterns", json!({"response_format": format})),
        ("a chain of rules", grammar("lark", json!(chain))),
        (
            "a chain of terminals",
            grammar("llguidance", json!(terminals)),
        ),
        (
            "counted repetitions",
            grammar("regex", json!("(((a{1000}){1000}){1000}){1000}")),
        ),
        (
            "a schema as text",
            grammar("json_schema", json!(patterns.to_string())),
        ),
        (
            "grammars in a list",
            grammar(
                "llguidance",
                json!({"grammars": [{"lark_grammar": intersection}]}),
            ),
        ),
        (
            "a tool",
            json!({"tools": [{"type": "function", "function": function}], "tool_choice": "required"}),
        ),
    ]
}

#[tokio::test]
async fn a_text_that_is_too_long_is_not_even_read() {
    let (_server, client) = start("max_text_bytes = 2000\n");
    let words: Vec<_> = (0..500).map(|at| format!("w{at}")).collect();
    let alternatives = words.join("|");
    let schema = json!({"type": "object", "properties": {"a": {"enum": words}}});
    let function = json!({"name": "f", "parameters": schema, "strict": true});
    let grammar = |kind: &str, value: Value| json!({"grammar": {"type": kind, "value": value}});
    for (fields, param) in [
        (grammar("regex", json!(alternatives)), "grammar"),
        (
            grammar("lark", json!(format!("start: /{alternatives}/"))),
            "grammar",
        ),
        (grammar("json_schema", schema.clone()), "grammar"),
        (
            grammar("llguidance", json!({"grammars": [{"json_schema": schema}]})),
            "grammar",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
            "response_format",
        ),
        (
            json!({"tools": [{"type": "function", "function": function}], "tool_choice": "required"}),
            "tools[0].function.parameters",
        ),
    ] {
        let (status, answer) = client.post(CHAT, &chat("x", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(answer["error"]["param"], param);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("max_text_bytes"), "{message}");
    }
    check_good(&client, 0).await;
}

#[tokio::test]
async fn memory_comes_back_after_refused_grammars() {
    let (server, client) = start("");
    check_good(&client, 0).await;
    let before = resident_mib(&server);
    for round in 0..12 {
        let words: Vec<_> = (0..250_000)
            .map(|at| format!("a word {round} {at}"))
            .collect();
        let fields = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": words}}}});
        let (status, _) = client.post(CHAT, &chat("x", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let comes_back = async {
        while resident_mib(&server) > before + 40 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let came_back = timeout(tenon_tests::PATIENCE / 4, comes_back).await;
    assert!(
        came_back.is_ok(),
        "{before} → {} MiB",
        resident_mib(&server)
    );
}

/// Checks that a grammar which was never compiled before still works.
async fn check_good(client: &Client, index: usize) {
    let expected = format!("good {index}");
    let fields = json!({"grammar": {"type": "regex", "value": expected}});
    let (status, answer) = client.post(CHAT, &chat("x", fields)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(text(&answer), expected);
}

/// Memory of the server and its workers together.
fn resident_mib(server: &Server) -> u64 {
    server.processes().into_iter().map(resident_mib_of).sum()
}

fn resident_mib_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

fn start(grammar: &str) -> (Server, Client) {
    let config = format!("[grammar]\n{grammar}");
    let mut server = ServerOptions::echo(0).config(&config).start();
    let client = server.client();
    (server, client)
}
