//! Drafts make repetitive texts faster, and do not change any text.

use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn answers_are_the_same_with_and_without() {
    let (_with, with) = start(32);
    let (_without, without) = start(0);
    for (path, body) in requests() {
        let expected = without.stream(path, &body).await;
        let stream = with.stream(path, &body).await;
        assert_eq!(stream.text(), expected.text(), "{body}");
        assert_eq!(stream.finish_reason(), expected.finish_reason());
    }
    let accepted = "tenon_engine_accepted_tokens_total";
    assert!(with.metric(accepted).await > 0.0);
    assert_eq!(without.metric(accepted).await, 0.0);
}

#[tokio::test]
async fn a_copy_takes_few_steps() {
    let (_server, client) = start(32);
    let message = r#"{"name": "Ada", "born": 1815, "known_for": "the first program"}"#.repeat(8);
    let stream = client
        .stream(CHAT, &chat(&message, json!({"temperature": 0})))
        .await;
    assert_eq!(stream.text(), message);
    let steps = client.metric("tenon_engine_steps_total").await as usize;
    assert!(
        steps < message.len() / 4,
        "{steps} steps for {} tokens",
        message.len()
    );
}

#[tokio::test]
async fn an_answer_ends_where_it_shall_though_more_was_drafted() {
    let (_server, client) = start(32);
    let message = "ten letters".repeat(20);
    for max_tokens in [50, 51, 52, 53, 54, 70, 99] {
        let body = chat(
            &message,
            json!({"temperature": 0, "max_tokens": max_tokens}),
        );
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), message[..max_tokens]);
        assert_eq!(stream.finish_reason(), Some("length"));
    }
    let body = chat(&message, json!({"temperature": 0, "stop": "rsten letters"}));
    assert_eq!(client.stream(CHAT, &body).await.text(), "ten lette");
}

/// Tokens that a grammar forces are scored in the step that drafts what follows them.
#[tokio::test]
async fn a_draft_leaves_room_for_the_scores_of_forced_tokens() {
    let (_server, client) = start(32);
    for forced in [60, 110, 115, 120, 124] {
        let message = "abcdefghij".repeat(20);
        let regex = format!("{}[a-j]{{40}}", &message[..forced]);
        let parameters = json!({
            "temperature": 0, "logprobs": true,
            "grammar": {"type": "regex", "value": regex},
        });
        let stream = client.stream(CHAT, &chat(&message, parameters)).await;
        assert_eq!(stream.text(), message[..forced + 40], "{forced}");
        assert_eq!(stream.finish_reason(), Some("stop"), "{forced}");
        let scored = stream.chunks.iter().flat_map(|chunk| {
            let logprobs = &chunk["choices"][0]["logprobs"]["content"];
            logprobs.as_array().cloned().unwrap_or_default()
        });
        assert_eq!(scored.count(), forced + 40, "{forced}");
    }
    assert!(client.metric("tenon_engine_accepted_tokens_total").await > 0.0);
}

fn start(max_draft_tokens: u32) -> (Server, Client) {
    let config = format!("[engine]\nmax_draft_tokens = {max_draft_tokens}\n");
    let mut server = ServerOptions::echo(1).config(&config).start();
    let client = server.client();
    (server, client)
}

fn requests() -> Vec<(&'static str, Value)> {
    let mut requests = Vec::new();
    for seed in 0..4 {
        let message = "again and again ".repeat(12);
        let chance = json!({"temperature": 1.2, "seed": seed, "max_tokens": 150});
        requests.push((CHAT, chat(&message, chance)));
        let penalties = json!({
            "temperature": 0.7, "seed": seed, "max_tokens": 150,
            "frequency_penalty": 0.3, "presence_penalty": 0.5, "repetition_penalty": 1.1,
        });
        requests.push((CHAT, chat(&message, penalties)));
        let plain = json!({
            "prompt": "<|user|>a b c a b c a b c<|end|><|assistant|>",
            "temperature": 1, "seed": seed, "max_tokens": 80, "stop": "cab",
        });
        requests.push((PLAIN, plain));
    }
    requests
}
