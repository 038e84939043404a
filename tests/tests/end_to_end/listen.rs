//! Several addresses, and Unix sockets.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tenon_tests::{Client, Server, ServerOptions, chat};
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";
const SOCKET: &str = "run/tenon.sock";

#[tokio::test]
async fn a_unix_socket_serves_as_a_port_does() {
    let mut server = start("listen = ['127.0.0.1:0', 'unix:run/tenon.sock']");
    let by_port = server.client();
    let by_socket = client_of(&server);
    for client in [&by_port, &by_socket] {
        assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    }
    let long = "The quick brown fox jumps over the lazy dog.";
    let stream = by_socket
        .stream(CHAT, &chat(long, json!({"temperature": 0})))
        .await;
    assert_eq!(stream.text(), long);
    // A client that connects to the socket is on this machine, so it may administrate.
    assert_eq!(by_socket.get("/admin/models").await.0, StatusCode::OK);
    let forwarded = by_socket.request(Method::GET, "/admin/models");
    let forwarded = forwarded
        .header("x-forwarded-for", "192.0.2.1")
        .send()
        .await;
    assert_eq!(forwarded.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_client_that_leaves_a_unix_socket_ends_its_request() {
    let server = start("listen = 'unix:run/tenon.sock'");
    let client = client_of(&server);
    let long = "x".repeat(2000);
    let slow = chat(&long, json!({"temperature": 0, "model": "slow"}));
    let mut stream = client.open(CHAT, &slow).await;
    stream.next_text().await;
    client
        .wait_for_metric("tenon_engine_running_sequences", 1.0)
        .await;
    drop(stream);
    client
        .wait_for_metric("tenon_engine_running_sequences", 0.0)
        .await;
    // An answer that is not streamed has not begun when its client leaves.
    let whole = client.request(Method::POST, CHAT).json(&slow);
    let sent = whole.timeout(Duration::from_millis(500)).send().await;
    assert!(sent.unwrap_err().is_timeout());
    client
        .wait_for_metric("tenon_engine_running_sequences", 0.0)
        .await;
}

#[tokio::test]
async fn the_file_of_a_socket_goes_with_its_server() {
    let mut first = start("listen = 'unix:run/tenon.sock'");
    let file = first.home().join(SOCKET);
    let path = file.display().to_string();
    // Another server does not take a socket that is in use.
    let mut second = options(&format!("listen = 'unix:{path}'")).spawn();
    assert_eq!(second.wait().code(), Some(2));
    let log = second.rest_of_log();
    assert!(
        log.contains(&format!("cannot listen at unix:{path}")),
        "{log}"
    );

    first.signal("KILL");
    first.wait();
    assert!(file.exists());
    let mut third = options(&format!("listen = 'unix:{path}'")).start();
    check_answers(&Client::of_socket(&file)).await;
    third.signal("TERM");
    assert_eq!(third.wait().code(), Some(0));
    assert!(!file.exists());
}

#[tokio::test]
async fn administration_can_have_an_address_of_its_own() {
    let mut server =
        start("listen = '127.0.0.1:0'\nadmin_listen = ['127.0.0.1:0', 'unix:run/tenon.sock']");
    let clients = server.client();
    let line = server.wait_for_log("for administration and metrics");
    let (_, address) = line.split_once("listening at ").unwrap();
    let admin = Client::new(address.split(' ').next().unwrap().to_owned());
    check_answers(&clients).await;
    for path in ["/metrics", "/admin/models"] {
        let (status, answer) = clients.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(answer["error"]["code"], "unknown_url");
    }
    for admin in [admin, client_of(&server)] {
        assert!(admin.metric("tenon_http_connections").await >= 1.0);
        assert_eq!(admin.get("/admin/models").await.0, StatusCode::OK);
        assert_eq!(admin.get("/health/ready").await.0, StatusCode::OK);
        for path in ["/v1/models", "/docs", "/"] {
            assert_eq!(admin.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        let (status, _) = admin.post(CHAT, &chat("Hi", json!({}))).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

/// A server of the models `echo` and `slow`, with these keys in its `[server]`.
fn options(keys: &str) -> ServerOptions {
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .file("slow.echo", "20")
        .file("run/.keep", "")
        .config(&format!(
            "[server]\n{keys}\n[engine]\nmax_draft_tokens = 0\n[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'slow.echo'\n"
        ))
        .addresses_of_config()
}

fn start(keys: &str) -> Server {
    let mut server = options(keys).start();
    server.wait_for_log("model ready model=\"slow\"");
    server
}

fn client_of(server: &Server) -> Client {
    Client::of_socket(&server.home().join(SOCKET))
}

/// Checks that the server answers, as soon as its models are loaded.
async fn check_answers(client: &Client) {
    while client.get("/health/ready").await.0 != StatusCode::OK {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
}
