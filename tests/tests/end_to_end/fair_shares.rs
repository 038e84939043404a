//! The requests of one client do not block those of another, and short prompts do not wait for long ones. Waiting is counted
//! in steps.

use std::future::Future;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Event, Server, ServerOptions, chat, text};
use tokio::task::JoinHandle;

const CHAT: &str = "/v1/chat/completions";
const STEPS: &str = "tenon_engine_steps_total";
const COMPUTED: &str = "tenon_engine_computed_tokens_total";
const RUNNING: &str = "tenon_engine_running_sequences";
const WAITING: &str = "tenon_engine_waiting_sequences";
const PREEMPTIONS: &str = "tenon_engine_preemptions_total";

/// Milliseconds of a step: long enough that only few steps pass while a request travels to the server.
const STEP_MS: u32 = 10;
/// Steps that may pass on a busy machine while a request and its answer travel.
const ON_THE_WAY: f64 = 60.0;
const NO_END: &str = "257";

#[tokio::test]
async fn a_short_prompt_does_not_wait_for_long_ones() {
    // The prefill of a long prompt takes 60 steps.
    let (_server, client) = start("max_batch_tokens = 50\nkv_tokens = 20000\n");
    let long: Vec<_> = (0..3)
        .map(|number| spawn(&client, chat(&long_text(number, 3000), one_token())))
        .collect();
    client.wait_for_metric(WAITING, 2.0).await;
    let steps = steps_of(&client, client.post(CHAT, &chat("Hi", one_token()))).await;
    assert!(steps < ON_THE_WAY, "{steps} steps");
    // The three prompts are prefilled one after the other, in as many steps as their tokens need.
    for answer in join_all(long).await {
        assert_eq!(text(&answer.unwrap().1).len(), 1);
    }
    assert!(client.metric(STEPS).await < 200.0);
}

#[tokio::test]
async fn a_short_prompt_does_not_wait_for_many_long_ones_that_came_before() {
    let (_server, client) = start("max_batch_tokens = 50\nkv_tokens = 60000\nmax_sequences = 4\n");
    let long: Vec<_> = (0..8)
        .map(|number| spawn(&client, chat(&long_text(number, 3000), one_token())))
        .collect();
    client.wait_for_metric(WAITING, 7.0).await;
    let steps = steps_of(&client, client.post(CHAT, &chat("Hi", one_token()))).await;
    assert!(steps < ON_THE_WAY, "{steps} steps");
    long.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn short_prompts_do_not_keep_a_long_one_waiting_for_good() {
    let (_server, client) = start("max_batch_tokens = 50\nmax_step_ms = 0\nkv_tokens = 20000\n");
    let long = spawn(&client, chat(&long_text(0, 1500), one_token()));
    client.wait_for_metric(RUNNING, 1.0).await;
    // An endless supply of prompts, more than the steps have room for.
    let crowd: Vec<_> = (0..12)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0.. {
                    let body = chat(&long_text(100 + number + 100 * round, 40), one_token());
                    client.post(CHAT, &body).await;
                }
            })
        })
        .collect();
    let steps = steps_of(&client, long).await;
    // The prompt needs 30 steps of its own, and gets half of each step.
    assert!(steps < 30.0 * 4.0 + ON_THE_WAY, "{steps} steps");
    crowd.iter().for_each(JoinHandle::abort);
}

/// Four prompts that do not fit into the pool together, and a short one that overtakes those that wait.
#[tokio::test]
async fn prompts_that_fill_the_pool_do_not_block_each_other() {
    let (_server, client) =
        start("max_batch_tokens = 50\nkv_tokens = 2000\ncontext_length = 2000\n");
    let long: Vec<_> = (0..4)
        .map(|number| {
            let body = chat(
                &long_text(number, 900),
                json!({"temperature": 0, "max_tokens": 200}),
            );
            spawn(&client, body)
        })
        .collect();
    // Two of them fit together, as long as they do not grow.
    client.wait_for_metric(RUNNING, 2.0).await;
    let steps = steps_of(&client, client.post(CHAT, &chat("Hi", one_token()))).await;
    assert!(steps < ON_THE_WAY, "{steps} steps");
    for (answer, number) in join_all(long).await.into_iter().zip(0..) {
        let (status, answer) = answer.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(text(&answer), &long_text(number, 900)[..200]);
    }
}

/// The waiting request has no room until the first one ends, however many others come.
#[tokio::test]
async fn a_prompt_without_room_is_overtaken_only_until_it_would_have_room() {
    let config =
        "max_batch_tokens = 50\nkv_tokens = 2000\ncontext_length = 2000\nmax_sequences = 4\n";
    let (_server, client) = start(config);
    let first = client.open(CHAT, &endless(&long_text(0, 1000), 900)).await;
    client.wait_for_metric(RUNNING, 1.0).await;
    let second = spawn(&client, chat(&long_text(1, 1700), one_token()));
    client.wait_for_metric(WAITING, 1.0).await;
    let overtaking = client
        .open(CHAT, &chat(&long_text(2, 450), json!({"temperature": 0})))
        .await;
    client.wait_for_metric(RUNNING, 2.0).await;
    drop(first);
    assert_eq!(second.await.unwrap().0, StatusCode::OK);
    assert_eq!(client.metric(PREEMPTIONS).await, 1.0);
    assert_eq!(overtaking.all_text().await.len(), 450);
}

#[tokio::test]
async fn a_request_for_many_answers_keeps_nobody_waiting() {
    let (_server, client) = start("kv_tokens = 100000\n");
    let mut many = endless("many", 8000);
    many["n"] = json!(128);
    let _many = client.open(CHAT, &many).await;
    client.wait_for_metric(RUNNING, 16.0).await;
    for _ in 0..3 {
        assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
        client.wait_for_metric(RUNNING, 16.0).await;
    }
    // The gauges still describe the step of the last answer's end.
    client.wait_for_metric(WAITING, 112.0).await;
}

#[tokio::test]
async fn many_requests_of_one_client_keep_no_other_one_waiting() {
    let (_server, a, b) = start_with_keys("kv_tokens = 100000\n");
    for priority in [0, -1, i32::MIN] {
        let mut body = endless("many", 4000);
        body["priority"] = json!(priority);
        let many = (0..20).map(|_| a.open(CHAT, &body));
        let many = join_all(many).await;
        a.wait_for_metric(RUNNING, 16.0).await;
        let (status, answer) = b.post(CHAT, &chat("Hi", json!({"temperature": 0}))).await;
        assert_eq!(
            (status, text(&answer)),
            (StatusCode::OK, "Hi"),
            "{priority}"
        );
        drop(many);
        a.wait_for_metric(WAITING, 0.0).await;
        a.wait_for_metric(RUNNING, 0.0).await;
    }
}

#[tokio::test]
async fn an_operator_may_let_priorities_count_between_clients() {
    let (_server, a, b) =
        start_with_keys("kv_tokens = 100000\nmax_sequences = 2\nmin_priority = -1\n");
    let mut body = chat(&long_text(0, 200), json!({"temperature": 0}));
    body["priority"] = json!(-1);
    let first = (0..4).map(|_| a.open(CHAT, &body));
    let first = join_all(first).await;
    a.wait_for_metric(RUNNING, 2.0).await;
    a.wait_for_metric(WAITING, 2.0).await;
    let last = spawn(&b, chat("Hi", one_token()));
    a.wait_for_metric(WAITING, 3.0).await;
    for events in first {
        assert_eq!(events.all_text().await.len(), 200);
    }
    assert_eq!(last.await.unwrap().0, StatusCode::OK);
    assert_eq!(a.metric(PREEMPTIONS).await, 0.0);
}

#[tokio::test]
async fn clients_get_as_many_places_each_and_what_gave_way_goes_on_from_where_it_was() {
    let config = "kv_tokens = 100000\nmax_sequences = 4\nmax_cached_sequences = 8\n";
    let (_server, a, b) = start_with_keys(config);
    let message = "It is repeated to its last letter. ".repeat(6);
    let body = |number: u32| chat(&format!("{number} {message}"), json!({"temperature": 0}));
    let first: Vec<_> = (0..4).map(|number| spawn(&a, body(number))).collect();
    a.wait_for_metric(RUNNING, 4.0).await;
    let second: Vec<_> = (4..8).map(|number| spawn(&b, body(number))).collect();
    for (answer, number) in join_all(first.into_iter().chain(second))
        .await
        .iter()
        .zip(0..)
    {
        let (_, answer) = answer.as_ref().unwrap();
        assert_eq!(text(answer), format!("{number} {message}"));
    }
    let preemptions = a.metric(PREEMPTIONS).await;
    assert_eq!(preemptions, 2.0);
    // At most: prompts and answers once, and one more token for each preempted sequence that continued. Shared prefixes cost
    // even less.
    let tokens = 8.0 * (2.0 * (message.len() + 2) as f64 + 4.0);
    let computed = a.metric(COMPUTED).await;
    assert!(computed <= tokens + preemptions, "{computed} of {tokens}");
}

#[tokio::test]
async fn a_full_queue_takes_in_whoever_has_less_in_it() {
    let config = "kv_tokens = 100000\nmax_sequences = 1\nmax_queue = 3\n";
    let (_server, a, b) = start_with_keys(config);
    let running = a.open(CHAT, &endless("running", 8000)).await;
    a.wait_for_metric(RUNNING, 1.0).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        let body = chat(&number.to_string(), json!({"temperature": 0}));
        waiting.push(a.open(CHAT, &body).await);
        a.wait_for_metric(WAITING, f64::from(number)).await;
    }
    let (status, _) = a.post(CHAT, &chat("too many", json!({}))).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let other = spawn(&b, chat("Hi", json!({"temperature": 0})));
    // The youngest request lost its place.
    let mut displaced = waiting.pop().unwrap();
    let error = loop {
        match displaced.next().await.expect("an error") {
            Event::Chunk(chunk) if !chunk["error"].is_null() => break chunk,
            _ => {}
        }
    };
    assert_eq!(error["error"]["code"], "queue_full");
    drop(running);
    let (status, answer) = other.await.unwrap();
    assert_eq!((status, text(&answer)), (StatusCode::OK, "Hi"));
    for events in waiting {
        assert_eq!(events.all_text().await.len(), 1);
    }
}

#[tokio::test]
async fn the_one_place_goes_to_whoever_had_less() {
    let (_server, a, _) = start_with_keys("max_sequences = 1\n");
    let running = a.open(CHAT, &endless("running", 4000)).await;
    a.wait_for_metric(RUNNING, 1.0).await;
    let mut order = tokio::task::JoinSet::new();
    for (waiting, key) in [(1.0, "a"), (2.0, "a"), (3.0, "b"), (4.0, "b")] {
        let client = a.with_key(key);
        order.spawn(async move {
            let body = chat("in its turn", json!({"temperature": 0}));
            client.post(CHAT, &body).await;
            key
        });
        a.wait_for_metric(WAITING, waiting).await;
    }
    drop(running);
    // More tokens were computed for the other client.
    assert_eq!(order.join_next().await.unwrap().unwrap(), "b");
    assert_eq!(order.join_all().await.len(), 3);
}

#[tokio::test]
async fn a_request_is_held_to_the_operator_s_bounds() {
    let (_server, client) = start("max_answers = 2\nmax_output_tokens = 5\n");
    for (fields, param) in [
        (json!({"n": 3}), "n"),
        (json!({"max_tokens": 6}), "max_tokens"),
        (json!({"max_completion_tokens": 6}), "max_completion_tokens"),
    ] {
        let (status, answer) = client.post(CHAT, &chat("Hi", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["error"]["param"], param, "{answer}");
    }
    let (_, answer) = client
        .post(
            CHAT,
            &chat("longer than that", json!({"temperature": 0, "n": 2})),
        )
        .await;
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], "longe");
        assert_eq!(choice["finish_reason"], "length");
    }
    let plain = json!({"prompt": ["a", "b", "c"]});
    let (status, answer) = client.post("/v1/completions", &plain).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("prompt"))
    );
    let (_, answer) = client
        .post("/v1/completions", &json!({"prompt": "a"}))
        .await;
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 5);
}

fn start(engine: &str) -> (Server, Client) {
    let config = format!("[engine]\nmax_draft_tokens = 0\n{engine}");
    let mut server = ServerOptions::echo(STEP_MS).config(&config).start();
    let client = server.client();
    (server, client)
}

/// A server with two clients that have different keys.
fn start_with_keys(engine: &str) -> (Server, Client, Client) {
    let config =
        format!("[server]\napi_keys = ['a', 'b']\n[engine]\nmax_draft_tokens = 0\n{engine}");
    let mut server = ServerOptions::echo(STEP_MS).config(&config).start();
    let client = server.client();
    let (a, b) = (client.with_key("a"), client.with_key("b"));
    (server, a, b)
}

fn one_token() -> Value {
    json!({"temperature": 0, "max_tokens": 1})
}

/// A text of this length. Its beginning differs from that of every other text.
fn long_text(number: u32, length: usize) -> String {
    let word = format!("{number} is the number of this text. ");
    word.repeat(length / word.len() + 1)[..length].to_owned()
}

/// A request whose answer does not end by itself.
fn endless(message: &str, max_tokens: u32) -> Value {
    chat(
        message,
        json!({"temperature": 0, "max_tokens": max_tokens, "logit_bias": {NO_END: -100}}),
    )
}

fn spawn(client: &Client, body: Value) -> JoinHandle<(StatusCode, Value)> {
    let client = client.clone();
    tokio::spawn(async move { client.post(CHAT, &body).await })
}

/// The number of steps that pass while `work` runs.
async fn steps_of(client: &Client, work: impl Future) -> f64 {
    let before = client.metric(STEPS).await;
    work.await;
    client.metric(STEPS).await - before
}
