//! A prefix that prompts have in common is computed once. Answers do not change.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, text};

const CHAT: &str = "/v1/chat/completions";
const COMPUTED: &str = "tenon_engine_computed_tokens_total";
const KEPT: &str = "tenon_engine_kept_sequences";

#[tokio::test]
async fn the_next_turn_of_a_conversation_computes_only_what_is_new() {
    let (_server, client) = start("");
    let first = chat("What is the first turn?", json!({"temperature": 0}));
    let (_, answer) = client.post(CHAT, &first).await;
    let mut second = first.clone();
    second["messages"] = json!([
        {"role": "user", "content": "What is the first turn?"},
        {"role": "assistant", "content": text(&answer)},
        {"role": "user", "content": "And the second?"},
    ]);
    let computed = client.metric(COMPUTED).await;
    let (_, answer) = client.post(CHAT, &second).await;
    assert_eq!(text(&answer), "And the second?");
    let (prompt, cached) = prompt_tokens(&answer);
    // The cached prefix is the whole first prompt and its answer.
    assert_eq!(cached, 2 * "What is the first turn?".len() + 4);
    let computed = client.metric(COMPUTED).await - computed;
    assert_eq!(computed as usize, prompt - cached + text(&answer).len());
}

#[tokio::test]
async fn prompts_that_arrive_together_compute_their_common_beginning_once() {
    let (_server, client) = start("");
    let common = "All begin with these words. ".repeat(40);
    let requests = (0..6).map(|number| {
        let message = format!("{common}{number}");
        let body = chat(&message, json!({"temperature": 0, "max_tokens": 4}));
        let client = &client;
        async move { client.post(CHAT, &body).await.1 }
    });
    let answers = join_all(requests).await;
    assert!(answers.iter().all(|answer| text(answer) == "All "));
    let computed = client.metric(COMPUTED).await as usize;
    assert!(computed < common.len() + 6 * 40, "{computed} tokens");
    let reused = answers.iter().filter(|a| prompt_tokens(a).1 > common.len());
    assert_eq!(reused.count(), 5);
}

#[tokio::test]
async fn a_request_can_do_without() {
    let (_server, client) = start("");
    let body = chat(
        "Nobody shall know",
        json!({"temperature": 0, "cache_prompt": false}),
    );
    for _ in 0..2 {
        let (_, answer) = client.post(CHAT, &body).await;
        assert_eq!(prompt_tokens(&answer).1, 0);
        client.wait_for_metric(KEPT, 0.0).await;
    }
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_shall_be() {
    let (_server, client) = start("max_cached_sequences = 0\n");
    for _ in 0..2 {
        let (_, answer) = client.post(CHAT, &chat("Again", json!({}))).await;
        assert_eq!(prompt_tokens(&answer).1, 0);
    }
}

/// The pool of 300 tokens holds two of these conversations, so most of the cached ones have to go.
#[tokio::test]
async fn what_was_not_used_for_longest_makes_room() {
    let (_server, client) = start("kv_tokens = 300\nmax_sequences = 2\n");
    let messages = ["first", "second", "third", "fourth"].map(|name| format!("{name} ").repeat(8));
    for message in messages.iter().chain(&messages) {
        let (_, answer) = client
            .post(CHAT, &chat(message, json!({"temperature": 0})))
            .await;
        assert_eq!(text(&answer), message);
    }
    let (_, answer) = client
        .post(CHAT, &chat(&messages[3], json!({"temperature": 0})))
        .await;
    let (prompt, cached) = prompt_tokens(&answer);
    assert_eq!(cached, prompt - 1);
    let (_, answer) = client
        .post(CHAT, &chat(&messages[0], json!({"temperature": 0})))
        .await;
    // Only the beginning that all prompts have in common is cached.
    assert!(prompt_tokens(&answer).1 < 4, "{answer}");
    assert_eq!(client.metric("tenon_engine_preemptions_total").await, 0.0);
}

#[tokio::test]
async fn as_many_are_kept_as_the_operator_says() {
    let (_server, client) = start("max_cached_sequences = 3\n");
    for number in 0..5 {
        let message = format!("{number} is a number");
        client
            .post(CHAT, &chat(&message, json!({"temperature": 0})))
            .await;
    }
    client.wait_for_metric(KEPT, 3.0).await;
}

fn start(config: &str) -> (Server, Client) {
    // Without drafts, so that computed tokens can be counted.
    let config = format!("[engine]\nmax_draft_tokens = 0\n{config}");
    let mut server = ServerOptions::echo(1).config(&config).start();
    let client = server.client();
    (server, client)
}

/// Number of the prompt's tokens, and how many of them were cached.
fn prompt_tokens(answer: &Value) -> (usize, usize) {
    let usage = &answer["usage"];
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    (
        number(&usage["prompt_tokens"]),
        number(&usage["prompt_tokens_details"]["cached_tokens"]),
    )
}
