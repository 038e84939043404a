//! Requests that cannot be answered are refused with an error. All errors have the same form and say what is wrong.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_body_that_is_no_request_is_refused() {
    let (_server, client) = start();
    for (body, message) in [
        ("", "not valid JSON"),
        ("{\"messages\": [", "not valid JSON"),
        ("{messages: 1}", "line 1 column 2"),
        ("[]", "must be a JSON object"),
        ("\"text\"", "must be a JSON object"),
    ] {
        for path in [CHAT, PLAIN] {
            let request = client.request(Method::POST, path);
            let request = request.header("content-type", "application/json");
            let error = check(request.body(body), 400, json!(null), json!(null)).await;
            assert!(error.contains(message), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_value_is_named() {
    let (_server, client) = start();
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (key, value, param) in [
        ("messages", json!("Hi"), "messages"),
        ("messages", json!([]), "messages"),
        ("messages", json!([{"content": "Hi"}]), "messages[0].role"),
        (
            "messages",
            json!([{"role": "king", "content": ""}]),
            "messages[0].role",
        ),
        ("messages", user(json!(7)), "messages[0].content"),
        ("messages", user(json!(null)), "messages[0].content"),
        (
            "messages",
            user(json!([{"type": "text"}])),
            "messages[0].content[0]",
        ),
        ("model", json!(1), "model"),
        ("temperature", json!("hot"), "temperature"),
        ("temperature", json!(2.5), "temperature"),
        ("top_p", json!(-1), "top_p"),
        ("top_k", json!(0.5), "top_k"),
        ("frequency_penalty", json!(3), "frequency_penalty"),
        ("presence_penalty", json!(-2.5), "presence_penalty"),
        ("repetition_penalty", json!(0), "repetition_penalty"),
        ("min_p", json!([]), "min_p"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(-5), "max_tokens"),
        ("max_completion_tokens", json!("5"), "max_completion_tokens"),
        ("seed", json!("x"), "seed"),
        ("stop", json!(1), "stop"),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
        ("typical_p", json!(1.5), "typical_p"),
        ("n", json!(0), "n"),
        ("n", json!(129), "n"),
        ("logit_bias", json!({"260": 1}), "logit_bias"),
        ("logit_bias", json!({"a": 1}), "logit_bias"),
        ("logit_bias", json!({"1": -101}), "logit_bias"),
        ("logprobs", json!(5), "logprobs"),
        ("top_logprobs", json!(2), "top_logprobs"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("stream", json!("yes"), "stream"),
        (
            "stream_options",
            json!({"include_usage": true}),
            "stream_options",
        ),
        (
            "stream_options",
            json!({"include_usage": 1}),
            "stream_options.include_usage",
        ),
    ] {
        check_parameter(&client, CHAT, key, value, param, json!(null)).await;
    }
    for (key, value, param) in [
        ("prompt", json!(7), "prompt"),
        ("prompt", json!(null), "prompt"),
        ("prompt", json!([1, -2]), "prompt"),
        ("prompt", json!([]), "prompt"),
        ("prompt", json!([260]), "prompt"),
        ("prompt", json!([[1], []]), "prompt"),
        ("prompt", json!([[1], [260]]), "prompt"),
        ("max_tokens", json!(0), "max_tokens"),
        ("logprobs", json!(true), "logprobs"),
        ("logprobs", json!(21), "logprobs"),
        ("echo", json!("yes"), "echo"),
        ("best_of", json!(0), "best_of"),
        ("temperature", json!(true), "temperature"),
    ] {
        check_parameter(&client, PLAIN, key, value, param, json!(null)).await;
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_implemented_is_named() {
    let (_server, client) = start();
    let code = json!("unsupported_parameter");
    let functions = json!([{"name": "f"}]);
    check_parameter(
        &client,
        CHAT,
        "functions",
        functions,
        "functions",
        code.clone(),
    )
    .await;
    let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
    let param = "messages[0].content[0]";
    check_parameter(&client, CHAT, "messages", image, param, code.clone()).await;
    check_parameter(&client, PLAIN, "suffix", json!("end"), "suffix", code).await;
}

#[tokio::test]
async fn an_unknown_model_is_told_the_known_ones() {
    let (_server, client) = start();
    let code = json!("model_not_found");
    for path in [CHAT, PLAIN] {
        let request = client
            .request(Method::POST, path)
            .json(&body(path, "model", json!("gpt-4")));
        let message = check(request, 404, json!("model"), code.clone()).await;
        assert_eq!(message, "there is no model 'gpt-4'; there is: echo");
    }
    for name in ["gpt-4", "a/b"] {
        let request = client.request(Method::GET, &format!("/v1/models/{name}"));
        let message = check(request, 404, json!("model"), code.clone()).await;
        assert!(message.contains(name), "{message}");
    }
}

#[tokio::test]
async fn routes_methods_and_types_that_do_not_exist_are_refused() {
    let (_server, client) = start();
    for (method, path, status, code) in [
        (Method::GET, "/v1/nowhere", 404, "unknown_url"),
        (Method::POST, "/v1/chat", 404, "unknown_url"),
        (Method::GET, CHAT, 405, "method_not_allowed"),
        (Method::PUT, PLAIN, 405, "method_not_allowed"),
        (Method::DELETE, "/v1/models", 405, "method_not_allowed"),
        (Method::POST, "/health", 405, "method_not_allowed"),
    ] {
        let request = client.request(method, path);
        check(request, status, json!(null), json!(code)).await;
    }
    let json = chat("Hi", json!({})).to_string();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
    ] {
        let request = client.request(Method::POST, CHAT).body(json.clone());
        let request = request.header("content-type", content_type);
        check(request, 415, json!(null), json!("unsupported_media_type")).await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let config = "[server]\nmax_body_bytes = 1000\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let request = client.request(Method::POST, CHAT);
    let request = request.json(&chat(&"x".repeat(1000), json!({})));
    let message = check(request, 413, json!(null), json!("request_too_large")).await;
    assert!(message.contains("1000 bytes"), "{message}");
}

#[tokio::test]
async fn a_compressed_body_is_read_or_refused() {
    let config = "[server]\nmax_body_bytes = 10000\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let send = |encoding: &str, body: Vec<u8>| {
        let request = client.request(Method::POST, CHAT);
        let request = request.header("content-type", "application/json");
        request.header("content-encoding", encoding).body(body)
    };
    let body = |text: &str| chat(text, json!({"temperature": 0})).to_string();

    let response = send("gzip", gzip(&body("Hi"))).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "Hi");

    // The limit is on the size of the decoded body.
    let large = send("gzip", gzip(&body(&"x".repeat(1_000_000))));
    check(large, 413, json!(null), json!("request_too_large")).await;
    let broken = send("gzip", body("Hi").into_bytes());
    check(broken, 400, json!(null), json!(null)).await;
    let unknown = send("zstd", body("Hi").into_bytes());
    let code = json!("unsupported_media_type");
    let message = check(unknown, 415, json!(null), code).await;
    assert!(message.contains("'zstd'"), "{message}");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_refused_with_both_numbers() {
    let config = "[engine]\ncontext_length = 64\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    // Of 64 tokens the template takes four, and one is left for the answer.
    let fits = chat(&"x".repeat(59), json!({"max_tokens": 1}));
    assert_eq!(client.post(CHAT, &fits).await.0, StatusCode::OK);
    let too_long = chat(&"x".repeat(60), json!({"max_tokens": 1}));
    for stream in [false, true] {
        let mut body = too_long.clone();
        body["stream"] = json!(stream);
        let request = client.request(Method::POST, CHAT).json(&body);
        let code = json!("context_length_exceeded");
        let message = check(request, 400, json!(null), code).await;
        assert_eq!(
            message,
            "the prompt has 64 tokens, but the context is 64 tokens long"
        );
    }
}

#[tokio::test]
async fn more_answers_than_may_wait_are_refused() {
    let config = "[engine]\nmax_queue = 3\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let body = json!({"prompt": ["a", "b"], "n": 2});
    let request = client.request(Method::POST, PLAIN).json(&body);
    let message = check(request, 400, json!(null), json!(null)).await;
    assert!(message.contains("4 answers"), "{message}");
}

#[tokio::test]
async fn the_best_are_not_chosen_in_a_stream_nor_from_fewer() {
    let (_server, client) = start();
    for fields in [
        json!({"best_of": 2, "stream": true}),
        json!({"best_of": 2, "n": 3}),
    ] {
        let mut body = fields;
        body["prompt"] = json!("a");
        let request = client.request(Method::POST, PLAIN).json(&body);
        check(request, 400, json!("best_of"), json!(null)).await;
    }
}

fn start() -> (Server, Client) {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    (server, client)
}

/// A request that would be valid with another value of this key.
fn body(path: &str, key: &str, value: Value) -> Value {
    let mut body = match path {
        CHAT => chat("Hi", json!({})),
        _ => json!({"prompt": "Hi"}),
    };
    body[key] = value;
    body
}

async fn check_parameter(
    client: &Client,
    path: &str,
    key: &str,
    value: Value,
    param: &str,
    code: Value,
) {
    let body = body(path, key, value);
    let request = client.request(Method::POST, path).json(&body);
    let message = check(request, 400, json!(param), code).await;
    assert!(message.contains(&format!("'{param}'")), "{body}: {message}");
}

/// Checks the form of the error, and returns its message.
async fn check(request: RequestBuilder, status: u16, param: Value, code: Value) -> String {
    let response = request.send().await.unwrap();
    let found = response.status();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(found, status, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    let expected = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": param, "code": code,
    }});
    assert_eq!(answer, expected);
    message.to_owned()
}
