//! The form of successful requests and answers over the wire.

use std::time::SystemTime;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_whole_chat_has_every_key() {
    let (_server, client) = start();
    let (status, answer) = client.post(CHAT, &greedy_chat("Hi")).await;
    assert_eq!(status, StatusCode::OK);
    check_head(&answer, "chatcmpl-", "chat.completion");
    let choices = json!([{
        "index": 0,
        "message": {"role": "assistant", "content": "Hi", "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    }]);
    assert_eq!(answer["choices"], choices);
    assert_eq!(answer["usage"], usage());
}

#[tokio::test]
async fn a_whole_completion_has_every_key() {
    let (_server, client) = start();
    let (status, answer) = client.post(PLAIN, &completion()).await;
    assert_eq!(status, StatusCode::OK);
    check_head(&answer, "cmpl-", "text_completion");
    let choices = json!([{"text": "Hi", "index": 0, "logprobs": null, "finish_reason": "stop"}]);
    assert_eq!(answer["choices"], choices);
    assert_eq!(answer["usage"], usage());
}

#[tokio::test]
async fn a_chat_stream_is_role_then_text_then_finish() {
    let (_server, client) = start();
    let stream = client.stream(CHAT, &greedy_chat("Hé")).await;
    assert!(stream.done);
    check_same_head(&stream.chunks, "chatcmpl-", "chat.completion.chunk");
    let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
    let expected = [
        choice(json!({"role": "assistant", "content": ""}), json!(null)),
        choice(json!({"content": "H"}), json!(null)),
        choice(json!({"content": "é"}), json!(null)),
        choice(json!({}), json!("stop")),
    ];
    assert_eq!(choices(&stream.chunks), expected);
    assert!(
        stream
            .chunks
            .iter()
            .all(|chunk| chunk.get("usage").is_none())
    );
}

#[tokio::test]
async fn a_completion_stream_is_text_then_finish() {
    let (_server, client) = start();
    let stream = client.stream(PLAIN, &completion()).await;
    assert!(stream.done);
    check_same_head(&stream.chunks, "cmpl-", "text_completion");
    let choice = |text: &str, reason: Value| json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": reason}]);
    let expected = [
        choice("H", json!(null)),
        choice("i", json!(null)),
        choice("", json!("stop")),
    ];
    assert_eq!(choices(&stream.chunks), expected);
}

#[tokio::test]
async fn usage_comes_in_a_last_chunk_of_its_own_on_request() {
    let (_server, client) = start();
    for (path, mut body) in [(CHAT, greedy_chat("Hi")), (PLAIN, completion())] {
        body["stream_options"] = json!({"include_usage": true});
        body["cache_prompt"] = json!(false);
        let stream = client.stream(path, &body).await;
        let (last, before) = stream.chunks.split_last().unwrap();
        assert_eq!(last["usage"], usage());
        assert_eq!(last["choices"], json!([]));
        assert!(before.iter().all(|chunk| chunk["usage"] == json!(null)));
        assert!(before.iter().all(|chunk| chunk.get("usage").is_some()));

        body["stream_options"] = json!({"include_usage": false});
        let without = client.stream(path, &body).await;
        assert_eq!(choices(&without.chunks), choices(before));
    }
}

#[tokio::test]
async fn a_model_answers_to_its_name_its_aliases_and_none() {
    let (_server, client) = start();
    for name in [json!("echo"), json!("mistral"), json!(""), json!(null)] {
        let mut body = greedy_chat("Hi");
        body["model"] = name.clone();
        let (_, answer) = client.post(CHAT, &body).await;
        assert_eq!(answer["model"], "echo", "{name}");
    }
}

#[tokio::test]
async fn the_models_describe_themselves() {
    let (_server, client) = start();
    let (_, list) = client.get("/v1/models").await;
    assert_eq!(list["object"], "list");
    let [model] = &list["data"].as_array().unwrap()[..] else {
        panic!("{list}");
    };
    assert_eq!(model["id"], "echo");
    assert_eq!(model["object"], "model");
    assert_eq!(model["owned_by"], "tenon");
    assert_eq!(model["backend"], "org.tenon.echo");
    check_recent(&model["created"]);
    for path in ["/v1/models/echo", "/v1/models/mistral"] {
        assert_eq!(client.get(path).await, (StatusCode::OK, model.clone()));
    }
}

#[tokio::test]
async fn everybody_is_let_in_where_no_keys_are_configured() {
    let (_server, client) = start();
    for authorization in ["Bearer EMPTY", "Bearer sk-whatever", "Basic YTpi", "?"] {
        let request = client.request(Method::POST, CHAT);
        let request = request.header("authorization", authorization);
        let response = request.json(&greedy_chat("Hi")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{authorization}");
    }
}

#[tokio::test]
async fn fields_that_nobody_knows_and_values_that_ask_for_nothing_are_accepted() {
    let (_server, client) = start();
    for fields in [
        json!({"no_such_field": [1, {"a": null}], "x": null}),
        json!({"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}}),
        json!({"grammar": null, "response_format": {"type": "text"}, "repetition_penalty": 1}),
        json!({"user": "me", "store": false, "metadata": {"a": "b"}, "service_tier": "auto"}),
        json!({"logprobs": null, "stop": null, "seed": null, "temperature": null, "max_tokens": null}),
    ] {
        check_accepted(&client, CHAT, greedy_chat("Hi"), &fields).await;
        check_accepted(&client, PLAIN, completion(), &fields).await;
    }
    let fields = json!({"tools": [], "tool_choice": "auto", "logprobs": false, "parallel_tool_calls": true, "enable_thinking": false});
    check_accepted(&client, CHAT, greedy_chat("Hi"), &fields).await;
    let fields = json!({"echo": false, "best_of": 1, "suffix": ""});
    check_accepted(&client, PLAIN, completion(), &fields).await;
}

#[tokio::test]
async fn requests_and_tokens_are_counted() {
    let (_server, client) = start();
    client.post(CHAT, &greedy_chat("Hi")).await;
    client.stream(PLAIN, &completion()).await;
    client.get("/nowhere").await;
    let page = client.get_text("/metrics").await;
    for line in [
        r#"tenon_http_requests_total{route="/v1/chat/completions",status="200"} 1"#,
        r#"tenon_http_requests_total{route="/v1/completions",status="200"} 1"#,
        r#"tenon_http_requests_total{route="unknown",status="404"} 1"#,
        r#"tenon_prompt_tokens_total{model="echo"} 12"#,
        r#"tenon_completion_tokens_total{model="echo"} 4"#,
        r#"tenon_time_to_first_token_seconds_count{model="echo"} 2"#,
        r#"tenon_generation_seconds_count{model="echo",outcome="finished"} 2"#,
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
    }
    client
        .wait_for_metric("tenon_engine_running_sequences", 0.0)
        .await;
}

fn start() -> (Server, Client) {
    let config = r#"
        [[models]]
        path = "echo.echo"
        aliases = ["mistral"]
    "#;
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .config(config)
        .start();
    let client = server.client();
    (server, client)
}

fn greedy_chat(message: &str) -> Value {
    chat(message, json!({"temperature": 0}))
}

/// A handwritten template, which echo answers like a chat.
fn completion() -> Value {
    json!({"prompt": "<|user|>Hi<|end|><|assistant|>", "temperature": 0})
}

/// The usage of the requests here: their prompts have six tokens.
fn usage() -> Value {
    json!({
        "prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    })
}

async fn check_accepted(client: &Client, path: &str, mut body: Value, fields: &Value) {
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    let (status, answer) = client.post(path, &body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {answer}");
}

fn check_head(answer: &Value, id_prefix: &str, object: &str) {
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with(id_prefix), "{id}");
    assert_eq!(answer["object"], object);
    assert_eq!(answer["model"], "echo");
    check_recent(&answer["created"]);
}

fn check_same_head(chunks: &[Value], id_prefix: &str, object: &str) {
    for chunk in chunks {
        check_head(chunk, id_prefix, object);
        for key in ["id", "created"] {
            assert_eq!(chunk[key], chunks[0][key]);
        }
    }
}

/// The time is in seconds, not milliseconds.
fn check_recent(created: &Value) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let created = created.as_u64().unwrap();
    assert!(created <= now && created > now - 600, "{created}");
}

fn choices(chunks: &[Value]) -> Vec<Value> {
    chunks
        .iter()
        .map(|chunk| chunk["choices"].clone())
        .collect()
}
