//! The length limits of an answer, both upper and lower.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, chat, start_echo, text};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_model_that_may_not_end_goes_on() {
    let (_server, client) = start_echo("");
    let said = "hello";
    let (_, answer) = client
        .post(CHAT, &chat(said, json!({"temperature": 0})))
        .await;
    assert_eq!(text(&answer), said);
    // Completions of echo are noise. Only in chats do its answers end by themselves.
    for (fields, paths, tokens, reason) in [
        (
            json!({"ignore_eos": true}),
            &[CHAT, PLAIN][..],
            60,
            "length",
        ),
        (json!({"min_tokens": 100}), &[CHAT, PLAIN], 60, "length"),
        (
            json!({"min_tokens": 2, "ignore_eos": false}),
            &[CHAT],
            5,
            "stop",
        ),
    ] {
        for &path in paths {
            let mut body = fields.clone();
            body["max_tokens"] = json!(60);
            body["temperature"] = json!(0);
            match path {
                CHAT => body = chat(said, body),
                _ => body["prompt"] = json!(said),
            }
            let answer = post(&client, path, &body).await;
            assert_eq!(
                answer["usage"]["completion_tokens"], tokens,
                "{body}: {answer}"
            );
            assert_eq!(answer["choices"][0]["finish_reason"], reason, "{answer}");
        }
    }
    let body =
        json!({"prompt": said, "temperature": 1, "seed": 2, "min_tokens": 40, "max_tokens": 4000});
    let answer = post(&client, PLAIN, &body).await;
    assert!(
        answer["usage"]["completion_tokens"].as_u64() >= Some(40),
        "{answer}"
    );
}

#[tokio::test]
async fn stop_texts_and_grammars_end_it_all_the_same() {
    let (_server, client) = start_echo("");
    let body = chat(
        "one two",
        json!({"temperature": 0, "ignore_eos": true, "stop": " two"}),
    );
    assert_eq!(text(&post(&client, CHAT, &body).await), "one");
    let grammar = json!({"type": "regex", "value": "[ab]{3}"});
    let body = chat("x", json!({"ignore_eos": true, "grammar": grammar}));
    assert_eq!(text(&post(&client, CHAT, &body).await).len(), 3);
}

#[tokio::test]
async fn as_many_tokens_as_fit_may_be_asked_for() {
    let (_server, client) = start_echo("");
    let long = "a text that is longer than sixteen tokens";
    for many in [-1_i64, 1 << 32] {
        let fields = json!({"temperature": 0, "max_tokens": many});
        let answer = post(&client, CHAT, &chat(long, fields)).await;
        assert_eq!(text(&answer), long);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let body = json!({"prompt": long, "ignore_eos": true, "max_tokens": many});
        let answer = post(&client, PLAIN, &body).await;
        assert!(
            answer["usage"]["completion_tokens"].as_u64() > Some(16),
            "{answer}"
        );
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let (status, answer) = client
        .post(CHAT, &chat(long, json!({"max_tokens": -2})))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("-1 for as many tokens as fit"),
        "{message}"
    );
}

async fn post(client: &Client, path: &str, body: &Value) -> Value {
    let (status, answer) = client.post(path, body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {answer}");
    answer
}
