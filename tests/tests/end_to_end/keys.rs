//! Keys of clients, each with its own rights and limits.

use std::{fs, time::Duration};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

#[tokio::test]
async fn requests_beyond_the_limit_are_told_when_to_come_back() {
    let (_server, client) = start("name = 'a'\nkey = 'key-a'\nrequests_per_minute = 2");
    let [a, b] = ["key-a", "key-b"].map(|key| client.with_key(key));
    for left in ["1", "0"] {
        let answer = a.send(CHAT, &greedy("Hi", "one")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "2");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), left);
        assert!(!answer.headers().contains_key("x-ratelimit-limit-tokens"));
    }
    let refused = a.send(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let retry_after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&retry_after), "{retry_after}");
    let full_in = header(&refused, "x-ratelimit-reset-requests");
    assert!(full_in.ends_with('s'), "{full_in}");
    let error = &body(refused).await["error"];
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert_eq!(error["type"], "rate_limit_error");

    let message = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let refused = a.send(MESSAGES, &message).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    let answer = body(refused).await;
    assert_eq!(answer["type"], "error");
    assert_eq!(answer["error"]["type"], "rate_limit_error");

    // Only requests that compute something count, and other clients are not affected.
    assert_eq!(a.get("/v1/models").await.0, StatusCode::OK);
    assert_eq!(b.post(CHAT, &greedy("Hi", "one")).await.0, StatusCode::OK);
}

/// The routes that compute, each with a request for a model.
fn routes(model: &str) -> [(&'static str, Value); 6] {
    let mut chat = greedy("Hi", model);
    chat["max_tokens"] = json!(9);
    [
        (CHAT, chat.clone()),
        ("/v1/completions", json!({"model": model, "prompt": "Hi"})),
        ("/v1/responses", json!({"model": model, "input": "Hi"})),
        (MESSAGES, chat),
        ("/v1/embeddings", json!({"model": model, "input": "Hi"})),
        (
            "/v1/rerank",
            json!({"model": model, "query": "Hi", "documents": ["Hi"]}),
        ),
    ]
}

#[tokio::test]
async fn each_api_refuses_in_its_own_form() {
    let keys = "name = 'a'\nkey = 'key-a'\nmodels = ['two']\n\
                [[keys]]\nname = 'c'\nkey = 'key-c'\nrequests_per_minute = 1";
    let (_server, client) = start(keys);
    let [a, c] = ["key-a", "key-c"].map(|key| client.with_key(key));
    assert_eq!(c.post(CHAT, &greedy("Hi", "one")).await.0, StatusCode::OK);
    for (path, body) in routes("one") {
        let refused = client.send(path, &body).await;
        check_form(refused, path, 401, "invalid_api_key").await;
        let refused = a.send(path, &body).await;
        check_form(refused, path, 403, "model_not_allowed").await;

        let refused = c.send(path, &body).await;
        let retry_after: u64 = header(&refused, "retry-after").parse().unwrap();
        assert!((1..=60).contains(&retry_after), "{path}: {retry_after}");
        assert_eq!(header(&refused, "x-ratelimit-limit-requests"), "1");
        check_form(refused, path, 429, "rate_limit_exceeded").await;
    }
}

/// Checks that an error has the form of the API at this path.
async fn check_form(refused: Response, path: &str, status: u16, code: &str) {
    assert_eq!(refused.status(), status, "{path}");
    let (openai, anthropic) = match status {
        401 => ("invalid_request_error", "authentication_error"),
        403 => ("invalid_request_error", "permission_error"),
        _ => ("rate_limit_error", "rate_limit_error"),
    };
    let answer = body(refused).await;
    let error = &answer["error"];
    assert!(error["message"].is_string(), "{path}: {answer}");
    if path == MESSAGES {
        assert_eq!(answer["type"], "error", "{answer}");
        assert_eq!(error["type"], anthropic, "{answer}");
        assert!(answer["request_id"].is_string(), "{answer}");
        assert_eq!(error.get("code"), None, "{answer}");
    } else {
        assert_eq!(error["type"], openai, "{path}: {answer}");
        assert_eq!(error["code"], code, "{path}: {answer}");
        assert!(error.get("param").is_some(), "{path}: {answer}");
        assert_eq!(answer.get("type"), None, "{path}: {answer}");
    }
}

#[tokio::test]
async fn tokens_of_prompts_and_answers_are_limited() {
    let (_server, client) = start("name = 'a'\nkey = 'key-a'\ntokens_per_minute = 100");
    let client = client.with_key("key-a");
    let answer = client.send(CHAT, &greedy("Hello", "one")).await;
    assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), "100");
    let left: u64 = header(&answer, "x-ratelimit-remaining-tokens")
        .parse()
        .unwrap();
    let used = body(answer).await["usage"]["total_tokens"]
        .as_u64()
        .unwrap();
    // Tokens come back with time, so a few more may be left than were unused.
    assert!(
        (100 - used..100).contains(&left),
        "{left} of 100, {used} used"
    );

    let long = "x".repeat(100);
    let mut stream = client.open(CHAT, &greedy(&long, "one")).await;
    while stream.next().await.is_some() {}
    let refused = client.send(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), "0");
    // Prompt and answer of 100 bytes each took more tokens than two minutes bring.
    let retry_after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!(retry_after > 30, "{retry_after}");
    // All tokens are there again a minute after the first one is.
    let full_in = header(&refused, "x-ratelimit-reset-tokens");
    let secs = full_in.strip_suffix('s').unwrap().split_once('m').unwrap();
    let [minutes, secs] = [secs.0, secs.1].map(|part| part.parse::<u64>().unwrap());
    let later = 60 * minutes + secs - retry_after;
    assert!((59..=60).contains(&later), "{full_in}, {retry_after}");
}

#[tokio::test]
async fn a_request_runs_until_its_stream_ends() {
    let (_server, client) = start("name = 'a'\nkey = 'key-a'\nmax_concurrent = 1");
    let client = client.with_key("key-a");
    let long = "x".repeat(500);
    let mut stream = client.open(CHAT, &greedy(&long, "slow")).await;
    stream.next_text().await;
    let refused = client.send(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after"), "1");
    drop(stream);
    while client.post(CHAT, &greedy("Hi", "one")).await.0 != StatusCode::OK {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_key_is_for_its_models() {
    let (_server, client) = start("name = 'a'\nkey = 'key-a'\nmodels = ['tw*', 'gpt']");
    let [a, b] = ["key-a", "key-b"].map(|key| client.with_key(key));
    let listed = async |client: &Client| -> Vec<String> {
        let (_, list) = client.get("/v1/models").await;
        let models = list["data"].as_array().unwrap().iter();
        models
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(&a).await, ["two", "slow"]);
    assert_eq!(listed(&b).await, ["one", "two", "slow"]);
    // `gpt` is an alias of `slow`.
    for model in ["two", "gpt", "slow"] {
        assert_eq!(
            a.post(CHAT, &greedy("Hi", model)).await.0,
            StatusCode::OK,
            "{model}"
        );
    }
    let (_, answer) = a.post(CHAT, &chat("Hi", json!({"temperature": 0}))).await;
    assert_eq!(answer["model"], "two", "the first one that the key is for");
    let (status, answer) = a.post(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(answer["error"]["code"], "model_not_allowed");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("it may use: two, slow"), "{message}");
    assert_eq!(a.get("/v1/models/one").await.0, StatusCode::FORBIDDEN);
    let (status, _) = a
        .post("/tokenize", &json!({"content": "Hi", "model": "one"}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, answer) = a.post(CHAT, &greedy("Hi", "none")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(!message.contains("one,"), "{message}");

    let mut message = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    message["model"] = json!("one");
    let (status, answer) = a.post(MESSAGES, &message).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(answer["error"]["type"], "permission_error");
    let (status, answer) = client.post(MESSAGES, &message).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer["error"]["type"], "authentication_error");
}

#[tokio::test]
async fn keys_come_from_files_and_variables_and_can_be_replaced() {
    let keys = "name = 'a'\nkey_file = 'secret/a.key'\nrequests_per_minute = 5\n\
                [[keys]]\nname = 'c'\nenv = 'KEY_C'\nadmin = true";
    let mut server = options(keys)
        .file("secret/a.key", "first\n")
        .environment("KEY_C", "key-c")
        .start();
    server.wait_for_log("model ready model=\"one\"");
    let client = server.client();
    let [old, new, c] = ["first", "second", "key-c"].map(|key| client.with_key(key));
    assert_eq!(c.get("/admin/models").await.0, StatusCode::OK);
    assert_eq!(old.get("/admin/models").await.0, StatusCode::FORBIDDEN);
    let answer = old.send(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), "4");
    assert_eq!(new.get("/v1/models").await.0, StatusCode::UNAUTHORIZED);

    fs::write(server.home().join("secret/a.key"), "second").unwrap();
    server.wait_for_log("the configuration was read again");
    assert_eq!(old.get("/v1/models").await.0, StatusCode::UNAUTHORIZED);
    let answer = new.send(CHAT, &greedy("Hi", "one")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // The new key belongs to the same client, so the request counts with the earlier one.
    assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), "3");
    let reread = c.post("/admin/config/reload", &json!({})).await.1;
    assert_eq!(reread["changed"], json!([]));
}

#[tokio::test]
async fn what_other_keys_use_is_for_administration() {
    let of_a_and_b = "name = 'a'
key = 'key-a'
[[keys]]
name = 'b'
key = 'key-b'";
    let admin = "
[[keys]]
name = 'ops'
key = 'key-ops'
admin = true";
    for (keys, asking, sees_others) in [
        (of_a_and_b.to_owned(), "key-a", true),
        (format!("{of_a_and_b}{admin}"), "key-a", false),
        (format!("{of_a_and_b}{admin}"), "key-ops", true),
    ] {
        let (_server, client) = start(&keys);
        for key in ["key-a", "key-b"] {
            client.with_key(key).post(CHAT, &greedy("Hi", "one")).await;
        }
        let asking = client.with_key(asking);
        let of_b = r#"tenon_key_requests_total{key="b",status="200"}"#;
        match sees_others {
            true => asking.wait_for_metric(of_b, 1.0).await,
            false => client.with_key("key-ops").wait_for_metric(of_b, 1.0).await,
        }
        let page = asking.get_text("/metrics").await;
        assert_eq!(page.contains("key=\"b\""), sees_others, "{page}");
        assert!(page.contains("key=\"a\""), "{page}");
        assert!(page.contains("vllm:num_requests_waiting"), "{page}");
    }
}

#[tokio::test]
async fn the_log_and_the_metrics_have_names_and_no_keys() {
    let (mut server, client) = start("name = 'team a'\nkey = 's3cret-a'\nmodels = ['one']");
    let [a, wrong] = ["s3cret-a", "s3cret-x"].map(|key| client.with_key(key));
    let (_, answer) = a.post(CHAT, &greedy("Hi", "one")).await;
    a.stream(CHAT, &greedy("Hi", "one")).await;
    a.post(CHAT, &greedy("Hi", "two")).await;
    wrong.post(CHAT, &greedy("Hi", "one")).await;
    let in_header = client.request(Method::GET, "/v1/models");
    let in_header = in_header
        .header("x-api-key", "s3cret-a")
        .send()
        .await
        .unwrap();
    assert_eq!(in_header.status(), StatusCode::OK);
    // The tokens of a request are counted after its body was sent.
    let page = loop {
        let page = a.get_text("/metrics").await;
        if page.contains(r#"tenon_key_requests_total{key="team a",status="403"} 1"#) {
            break page;
        }
    };
    let usage = &answer["usage"];
    for (kind, tokens) in [
        ("prompt", &usage["prompt_tokens"]),
        ("completion", &usage["completion_tokens"]),
    ] {
        let twice = 2 * tokens.as_u64().unwrap();
        let line = format!(r#"tenon_key_tokens_total{{key="team a",kind="{kind}"}} {twice}"#);
        assert!(page.contains(&line), "no {line} in {page}");
    }
    assert!(!page.contains("s3cret"), "{page}");
    server.signal("TERM");
    server.wait();
    let log = server.rest_of_log();
    assert!(!log.contains("s3cret"), "{log}");
}

/// A server of the models `one`, `two` and `slow`, with this key beside the key `key-b`.
fn start(key: &str) -> (Server, Client) {
    let mut server = options(key).start();
    for model in ["one", "two", "slow"] {
        server.wait_for_log(&format!("model ready model=\"{model}\""));
    }
    let client = server.client();
    (server, client)
}

fn options(key: &str) -> ServerOptions {
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("one.echo", "0")
        .file("two.echo", "0")
        .file("slow.echo", "20")
        .config(&config(key))
}

fn config(key: &str) -> String {
    let models = ["one", "two", "slow"].map(|name| {
        let aliases = if name == "slow" { "['gpt']" } else { "[]" };
        format!("[[models]]\nmax_draft_tokens = 0\npath = '{name}.echo'\naliases = {aliases}\n")
    });
    format!(
        "[server]\napi_keys = ['key-b']\n[[keys]]\n{key}\n{}",
        models.concat()
    )
}

fn greedy(message: &str, model: &str) -> Value {
    chat(message, json!({"model": model, "temperature": 0}))
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

async fn body(answer: Response) -> Value {
    answer.json().await.unwrap()
}
