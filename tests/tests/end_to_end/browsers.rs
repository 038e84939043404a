//! Web pages in browsers: which pages may use a server, and which may not.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tenon_tests::{Client, Server, ServerOptions};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn pages_of_the_same_machine_may_use_a_local_server_and_no_others() {
    let (_server, client) = start("");
    for (origin, is_allowed) in [
        ("http://localhost:3000", true),
        ("http://127.0.0.1:5173", true),
        ("https://evil.example", false),
    ] {
        assert_eq!(
            preflight(&client, origin).await.is_some(),
            is_allowed,
            "{origin}"
        );
        let page = client.request(Method::POST, CHAT).header("origin", origin);
        let page = page.json(&json!({"messages": [{"role": "user", "content": "Hi"}]}));
        let answer = page.send().await.unwrap();
        let headers = answer.headers();
        assert_eq!(
            headers.contains_key("access-control-allow-origin"),
            is_allowed
        );
    }
}

#[tokio::test]
async fn a_page_whose_name_was_made_to_point_here_gets_nothing() {
    let (_server, client) = start("");
    for (host, expected) in [
        ("evil.example", StatusCode::FORBIDDEN),
        ("localhost:8080", StatusCode::OK),
    ] {
        let request = client.request(Method::GET, "/v1/models");
        let answer = request.header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{host}");
    }
}

#[tokio::test]
async fn the_operator_says_who_may() {
    let (_server, client) = start(
        "cors_origins = ['https://chat.example.com']\nallowed_hosts = ['llm.example.com']\napi_keys = ['k']\n",
    );
    assert!(
        preflight(&client, "https://chat.example.com")
            .await
            .is_some()
    );
    assert!(preflight(&client, "http://localhost:3000").await.is_none());
    let request = client.request(Method::GET, "/v1/models").bearer_auth("k");
    let answer = request
        .header("host", "llm.example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let (_server, client) = start("cors_origins = []\n");
    assert!(preflight(&client, "http://localhost:3000").await.is_none());
    let (_server, client) = start("cors_origins = ['*']\nallowed_hosts = ['*']\n");
    assert!(preflight(&client, "https://any.example").await.is_some());
    let request = client.request(Method::GET, "/v1/models");
    let answer = request.header("host", "any.example").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

fn start(keys: &str) -> (Server, Client) {
    let config = format!("[server]\n{keys}");
    let mut server = ServerOptions::echo(0).config(&config).start();
    let client = server.client();
    (server, client)
}

/// The server's answer to a browser that asks whether a page of this origin may post.
async fn preflight(client: &Client, origin: &str) -> Option<String> {
    let request = client
        .request(Method::OPTIONS, CHAT)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    let answer = request.send().await.unwrap();
    let allowed = answer.headers().get("access-control-allow-origin")?;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        answer.headers()["access-control-allow-headers"],
        "authorization,content-type"
    );
    Some(allowed.to_str().unwrap().to_owned())
}
