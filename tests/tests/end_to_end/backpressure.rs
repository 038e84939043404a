//! Too many requests, slow ones, and readers that do not read.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const CHAT: &str = "/v1/chat/completions";
const RUNNING: &str = "tenon_engine_running_sequences";
const WAITING: &str = "tenon_engine_waiting_sequences";

#[tokio::test]
async fn requests_with_a_lower_number_are_begun_first() {
    let (_server, client) = start(5, "[engine]\nmax_sequences = 1\n");
    assert_eq!(order(&client).await, [-3, 0, 7]);
}

#[tokio::test]
async fn a_key_may_be_no_more_urgent_than_it_is_allowed() {
    let key = "[[keys]]\nname = 'a'\nkey = 'key-a'\npriority_max = 0";
    let (_server, client) = start(5, &format!("[engine]\nmax_sequences = 1\n{key}\n"));
    // The most urgent one counts as 0, and arrived after the other such one.
    assert_eq!(order(&client.with_key("key-a")).await, [0, -3, 7]);
}

/// The priorities of waiting requests in the order in which these are answered. They arrive as 7, 0, -3.
async fn order(client: &Client) -> Vec<i32> {
    let mut first = client.open(CHAT, &greedy(&"x".repeat(300), 0)).await;
    first.next_text().await;
    let mut order = tokio::task::JoinSet::new();
    for (waiting, priority) in [(1.0, 7), (2.0, 0), (3.0, -3)] {
        let client = client.clone();
        let request = client.clone();
        order.spawn(async move {
            request.post(CHAT, &greedy("short", priority)).await;
            priority
        });
        client.wait_for_metric(WAITING, waiting).await;
    }
    drop(first);
    let mut ended = Vec::new();
    while let Some(priority) = order.join_next().await {
        ended.push(priority.expect("an answer"));
    }
    ended
}

#[tokio::test]
async fn a_request_has_its_time_and_no_more() {
    let (_server, client) = start(50, "[server]\nrequest_timeout_secs = 1\n");
    let long = greedy(&"x".repeat(1000), 0);
    let (status, answer) = client.post(CHAT, &long).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer["error"]["code"], "request_timeout");
    client.wait_for_metric(RUNNING, 0.0).await;

    let mut events = client.open(CHAT, &long).await;
    let mut last = None;
    while let Some(event) = events.next().await {
        if let tenon_tests::Event::Chunk(chunk) = event {
            last = Some(chunk);
        }
    }
    let last = last.expect("an event");
    assert_eq!(last["error"]["code"], "request_timeout", "{last}");

    let (status, answer) = client.post(CHAT, &greedy("quick", 0)).await;
    assert_eq!((status, text(&answer)), (StatusCode::OK, "quick"));
}

/// Each request takes four seconds, and they run one after the other.
#[tokio::test]
async fn those_who_are_sent_away_learn_when_to_come_back() {
    let config = "[engine]\nmax_sequences = 1\nmax_queue = 4\nmax_draft_tokens = 0\n";
    let (_server, client) = start(20, config);
    let body = greedy(&"x".repeat(200), 0);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client.open(CHAT, &body).await);
    }
    // The first request has ended, so the server knows how long a request takes.
    client.wait_for_metric(WAITING, 3.0).await;
    waiting.push(client.open(CHAT, &body).await);
    let refused = client.send(CHAT, &body).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let retry_after = refused.headers()["retry-after"].to_str().unwrap();
    assert!(retry_after.parse::<u32>().unwrap() >= 16, "{retry_after}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_sent_away_and_holds_nobody_up() {
    let (mut server, client) = start(0, "[server]\nwrite_timeout_secs = 1\n");
    // More data than the buffers between server and client can hold.
    let body = chat(
        &"x".repeat(3000),
        json!({"temperature": 0, "stream": true, "logprobs": true, "top_logprobs": 20}),
    );
    let mut reader = send_without_reading(&server.address(), &body).await;
    client.wait_for_metric(RUNNING, 1.0).await;
    let (status, answer) = client.post(CHAT, &greedy("quick", 0)).await;
    assert_eq!((status, text(&answer)), (StatusCode::OK, "quick"));
    client.wait_for_metric(RUNNING, 0.0).await;

    let mut received = String::new();
    reader.read_to_string(&mut received).await.unwrap();
    assert!(received.contains("\"read_timeout\""));
    assert!(!received.contains("\"finish_reason\":\"stop\""));
}

async fn send_without_reading(address: &str, body: &Value) -> TcpStream {
    let host = address.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(host.parse().unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

fn start(step_ms: u32, config: &str) -> (Server, Client) {
    let mut server = ServerOptions::echo(step_ms).config(config).start();
    let client = server.client();
    (server, client)
}

fn greedy(message: &str, priority: i32) -> Value {
    chat(message, json!({"temperature": 0, "priority": priority}))
}
