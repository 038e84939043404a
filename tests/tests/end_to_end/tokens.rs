//! `/tokenize`, `/detokenize` and `/apply-template`: what a model makes of a text before it answers.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions};

const CHAT: &str = "/v1/chat/completions";

async fn post(client: &Client, path: &str, body: Value) -> Value {
    let (status, answer) = client.post(path, &body).await;
    assert_eq!(status, StatusCode::OK, "{path} {body}: {answer}");
    answer
}

#[track_caller]
fn check_refused((status, answer): (StatusCode, Value), param: Option<&str>, code: Option<&str>) {
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let error = &answer["error"];
    assert_eq!(error["param"].as_str(), param, "{answer}");
    assert_eq!(error["code"].as_str(), code, "{answer}");
}

#[tokio::test]
async fn a_text_becomes_tokens_and_again_a_text() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let text = "é <|end|>";
    let answer = post(&client, "/tokenize", json!({"content": text})).await;
    let tokens = json!([195, 169, 32, 257]);
    assert_eq!(answer, json!({"tokens": tokens, "count": 4}));
    let answer = post(&client, "/detokenize", json!({"tokens": tokens})).await;
    assert_eq!(answer, json!({"content": text}));
}

#[tokio::test]
async fn the_options_of_a_text() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let pieces = json!({"content": "é<|end|>", "with_pieces": true, "add_special": true});
    let expected = json!([
        {"id": 256, "piece": "<|begin|>"},
        {"id": 195, "piece": [195]},
        {"id": 169, "piece": [169]},
        {"id": 257, "piece": "<|end|>"},
    ]);
    assert_eq!(post(&client, "/tokenize", pieces).await["tokens"], expected);
    let plain = json!({"content": "<|end|>", "parse_special": false});
    assert_eq!(post(&client, "/tokenize", plain).await["count"], 7);
}

#[tokio::test]
async fn wrong_texts_and_tokens_are_refused() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    for (path, body, param) in [
        ("/tokenize", json!({}), "content"),
        ("/tokenize", json!({"content": 1}), "content"),
        (
            "/tokenize",
            json!({"content": "a", "with_pieces": 1}),
            "with_pieces",
        ),
        (
            "/tokenize",
            json!({"content": "a", "messages": []}),
            "content",
        ),
        ("/tokenize", json!({"messages": []}), "messages"),
        (
            "/tokenize",
            json!({"messages": [{"role": "user", "content": "a"}], "with_pieces": "no"}),
            "with_pieces",
        ),
        ("/detokenize", json!({"tokens": [0, -1]}), "tokens[1]"),
        ("/detokenize", json!({"tokens": [260]}), "tokens"),
        ("/apply-template", json!({"messages": []}), "messages"),
    ] {
        check_refused(client.post(path, &body).await, Some(param), None);
    }
}

/// The longest token of the echo model has 13 bytes, and its context is 8192 tokens.
#[tokio::test]
async fn what_is_too_long_for_certain_is_refused_before_it_is_tokenized() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let longest = "a".repeat(13 * 8192);
    let answer = post(&client, "/tokenize", json!({"content": longest})).await;
    assert_eq!(answer["count"], 13 * 8192);
    let too_long = format!("{longest}a");
    let code = Some("context_length_exceeded");
    for (path, body) in [
        ("/tokenize", json!({"content": too_long})),
        ("/v1/completions", json!({"prompt": too_long})),
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": too_long}]}),
        ),
        ("/detokenize", json!({"tokens": vec![0; 8193]})),
    ] {
        let (status, answer) = client.post(path, &body).await;
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        check_refused((status, answer), None, code);
        assert!(message.contains("the context is 8192 tokens long"));
    }
}

#[tokio::test]
async fn a_chat_is_counted_and_shown_as_it_is_answered() {
    check_chat(&ServerOptions::echo(0).start().client()).await;
}

#[tokio::test]
async fn smollm2_counts_and_shows_a_chat_as_it_is_answered() {
    check_chat(&ServerOptions::smollm2().start().client()).await;
}

async fn check_chat(client: &Client) {
    let messages = json!([{"role": "user", "content": "Say <|im_end|> or <|end|>!"}]);
    let chat = json!({"messages": messages, "max_tokens": 1});
    let answer = post(client, CHAT, chat.clone()).await;
    let tokens = post(client, "/tokenize", chat.clone()).await;
    assert_eq!(tokens["count"], answer["usage"]["prompt_tokens"]);
    let prompt = post(client, "/apply-template", chat).await["prompt"].clone();
    let prompt = prompt.as_str().unwrap();
    let tokens = json!({"tokens": tokens["tokens"]});
    let text = post(client, "/detokenize", tokens).await["content"].clone();
    // The begin token may be added.
    assert!(text.as_str().unwrap().ends_with(prompt), "{text}");
    assert!(prompt.contains("Say <|im_end|> or <|end|>!"), "{prompt}");
}
