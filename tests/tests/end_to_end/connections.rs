//! Clients that are slow, silent, gone or too many.

use std::fs;

use serde_json::{Value, json};
use tenon_tests::{Client, PATIENCE, Server, ServerOptions, chat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const CHAT: &str = "/v1/chat/completions";
const RUNNING: &str = "tenon_engine_running_sequences";
const OPEN: &str = "tenon_http_connections";
const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn half_a_head_is_answered_and_closed() {
    let (mut server, _) = start(0, "header_timeout_secs = 1");
    for beginning in [
        "GET /hea",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-",
    ] {
        let answer = exchange(&mut server, beginning).await;
        check_error(&answer, 408, "request_too_slow");
    }
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let (mut server, _) = start(0, "header_timeout_secs = 1\nidle_timeout_secs = 1");
    assert_eq!(exchange(&mut server, "").await, "");
    let answer = exchange(&mut server, HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_slow_body_has_its_time_and_counts_into_that_of_the_request() {
    let half = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let (mut server, _) = start(0, "body_timeout_secs = 1");
    check_error(&exchange(&mut server, &half).await, 408, "request_too_slow");
    let (mut server, _) = start(0, "request_timeout_secs = 1");
    check_error(&exchange(&mut server, &half).await, 504, "request_timeout");
}

#[tokio::test]
async fn idle_connections_give_way_to_others() {
    let mut server = ServerOptions::echo(0).ulimit("-n 256").start();
    server.wait_for_log("connections (max_connections) are possible");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&mut server).await);
    }
    let client = server.client();
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    // The first connection had been idle for longest.
    assert_eq!(read_to_end(&mut idle[0]).await, "");
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised() {
    let server = ServerOptions::echo(0).ulimit("-Sn 64").start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let values: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(values[0], values[1]);
}

#[tokio::test]
async fn one_connection_too_many_is_told_when_to_come_back() {
    let (mut server, _) = start(50, "max_connections = 2");
    let mut working = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&mut server).await;
        send_chat(&mut stream, &long(true)).await;
        // Its answer has begun, so the connection is busy.
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        working.push(stream);
    }
    let answer = exchange(&mut server, HEALTH).await;
    check_error(&answer, 503, "too_many_connections");
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
}

#[tokio::test]
async fn one_client_cannot_take_the_connections_of_others() {
    let (mut server, _) = start(0, "max_connections_per_client = 3");
    let half = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&mut server).await;
        stream.write_all(half.as_bytes()).await.unwrap();
        // The server waits for the body, so the connection is busy.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        slow.push(stream);
    }
    let answer = exchange(&mut server, HEALTH).await;
    check_error(&answer, 429, "too_many_connections");
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    // Every address of 127.0.0.0/8 is this machine's.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let address = server.address();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let mut other = socket.connect(address).await.unwrap();
    let once = HEALTH.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    other.write_all(once.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut other).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // An idle connection gives way.
    slow[0].write_all(b"{\"a\": 1}").await.unwrap();
    let mut byte = [0];
    slow[0].read_exact(&mut byte).await.unwrap();
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 200") {
        answer = exchange(&mut server, &once).await;
    }
}

#[tokio::test]
async fn heads_and_bodies_have_limits() {
    let (mut server, client) = start(0, "");
    let begin = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let with = |headers: &str| format!("{begin}{headers}\r\n");
    let many = |count: usize| "a: b\r\n".repeat(count - 2);
    let long = |bytes: usize| format!("a: {}\r\n", "b".repeat(bytes));
    for (headers, status) in [(many(100), 200), (many(101), 431), (long(60_000), 200)] {
        let answer = exchange(&mut server, &with(&headers)).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{}: {answer}", headers.len());
    }
    // This head is not complete when its limit is reached.
    let endless = format!("{begin}a: {}", "b".repeat(64 * 1024 - begin.len() - 3));
    let answer = exchange(&mut server, &endless).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(129), "]".repeat(129));
    let request = client.request(reqwest::Method::POST, CHAT);
    let request = request.header("content-type", "application/json");
    let answer = request.body(deep).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer: Value = answer.json().await.unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("at most 127 levels"), "{message}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answer() {
    let (mut server, _) = start(5, "");
    for is_streamed in [false, true] {
        let mut stream = connect(&mut server).await;
        let text = "Who says nothing more still listens. ".repeat(8);
        let body = chat(&text, json!({"temperature": 0, "stream": is_streamed}));
        send_chat(&mut stream, &body).await;
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\"finish_reason\":\"stop\""), "{answer}");
        assert!(!is_streamed || answer.contains("data: [DONE]"), "{answer}");
    }
}

/// A client that disconnects looks at first like one that closed only its half of the connection.
#[tokio::test]
async fn a_client_that_goes_away_after_that_frees_its_sequence() {
    let (mut server, client) = start(20, "keep_alive_interval_ms = 1000000");
    for is_streamed in [false, true] {
        let mut stream = connect(&mut server).await;
        send_chat(&mut stream, &long(is_streamed)).await;
        client.wait_for_metric(RUNNING, 1.0).await;
        stream.shutdown().await.unwrap();
        drop(stream);
        client.wait_for_metric(RUNNING, 0.0).await;
    }
    let metrics = client.get_text("/metrics").await;
    let cancelled = "tenon_generation_seconds_count{model=\"echo\",outcome=\"cancelled\"} 2";
    assert!(metrics.contains(cancelled), "{metrics}");
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let (mut server, _) = start(0, "idle_timeout_secs = 1");
    let answers = exchange(&mut server, &HEALTH.repeat(3)).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_connection() {
    let (mut server, client) = start(0, "write_timeout_secs = 1");
    let body = chat(
        &"x".repeat(3000),
        json!({"temperature": 0, "stream": true, "logprobs": true, "top_logprobs": 20}),
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = server.address();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    send_chat(&mut stream, &body).await;
    client.wait_for_metric(OPEN, 2.0).await;
    client.wait_for_metric(OPEN, 1.0).await;
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_a_stop() {
    let (mut server, client) = start(0, "drain_timeout_secs = 1000");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\
         expect: 100-continue\r\n"
    );
    let mut begun = Vec::new();
    for beginning in ["", "GET /hea", &head, &format!("{head}\r\n{{")] {
        let mut stream = connect(&mut server).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        begun.push(stream);
    }
    client.wait_for_metric(OPEN, 5.0).await;
    let mut last = begun.pop().unwrap();
    // The server sends this when it begins to read the body.
    let mut go_on = [0; 25];
    last.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM");
    check_error(&read_to_end(&mut last).await, 503, "draining");
    assert_eq!(server.wait().code(), Some(0));
}

fn start(step_ms: u32, server: &str) -> (Server, Client) {
    let config = format!("[server]\n{server}\n[engine]\nmax_draft_tokens = 0\n");
    let mut server = ServerOptions::echo(step_ms).config(&config).start();
    let client = server.client();
    (server, client)
}

/// A chat whose end nobody waits for.
fn long(is_streamed: bool) -> Value {
    chat(
        &"x".repeat(3000),
        json!({"temperature": 0, "stream": is_streamed}),
    )
}

async fn connect(server: &mut Server) -> TcpStream {
    let address = server.address();
    let address = address.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

async fn send_chat(stream: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
}

/// Sends a text and reads until the server closes the connection.
async fn exchange(server: &mut Server, sent: &str) -> String {
    let mut stream = connect(server).await;
    stream.write_all(sent.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("the server closes the connection").unwrap();
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn check_error(answer: &str, status: u16, code: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], code);
}
