use std::{io::Write, net::TcpStream, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};
use tower::ServiceExt;

use super::*;
use crate::{
    config,
    connections::{self, Limits, Listener, Register},
    keys::{Key, KeyHash, Keys},
    layers::surround,
    metrics::Metrics,
    models::{ModelState, ServedModel, Snapshot},
    rereading::Rereading,
};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

const MAX_BODY_BYTES: usize = 1 << 20;

fn router(app: Arc<App>) -> Router {
    super::router(app, config::Scope::Everything)
}

/// A server with one model that is loading and one that failed.
fn app() -> Arc<App> {
    app_with_keys(&[])
}

fn app_with_keys(keys: &[&str]) -> Arc<App> {
    Arc::new(app_of(config_with_keys(keys)))
}

/// A server of these models with another configuration.
fn app_of(config: config::Config) -> App {
    let loading = ServedModel::new("org/loading".to_owned(), vec!["alias".to_owned()]);
    let failed = ServedModel::new("failed".to_owned(), vec![]);
    failed.set_state(ModelState::Failed("no such file".to_owned()));
    let snapshot = Snapshot {
        config,
        models: [loading, failed].map(Arc::new).into(),
    };
    App::new(snapshot, Metrics::new().unwrap(), Rereading::channel().0).unwrap()
}

/// A configuration with these API keys.
fn config_with_keys(keys: &[&str]) -> config::Config {
    config::Config {
        server: server(),
        keys: keys_of(keys, &[]),
        responses: config::Responses {
            file: None,
            max_kept_bytes: 1 << 20,
            max_kept_time: Duration::from_secs(60),
        },
        ..config::tests::defaults()
    }
}

/// These API keys and admin keys.
fn keys_of(api: &[&str], admin: &[&str]) -> Keys {
    let listed = |keys: &[&str], is_admin| -> Vec<Key> {
        let key = |key: &&str| Key::listed(String::new(), KeyHash::of(key), is_admin);
        keys.iter().map(key).collect()
    };
    let all = [listed(admin, true), listed(api, false)].concat();
    Keys::new(all, !api.is_empty())
}

fn server() -> config::Server {
    config::Server {
        listen: vec![config::Listen {
            address: config::ListenAddress::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 0,
            },
            scope: config::Scope::Everything,
            is_encrypted: false,
        }],
        keep_alive_interval: Duration::from_secs(10),
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(10),
        request_timeout: None,
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        max_connections: 10,
        max_connections_per_client: None,
        max_body_bytes: MAX_BODY_BYTES,
        requantize_needs_admin_key: false,
        origins: config::Origins::These(vec!["https://chat.example.com".to_owned()]),
        hosts: config::Hosts::These(vec!["llm.example.com".to_owned()]),
        watch_config: false,
        memory_budget_bytes: None,
        unload_busy_models: false,
        log_format: config::LogFormat::Text,
        access_log: false,
        log_prompts: false,
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The content of the error envelope. Checks that it has the four keys.
    #[track_caller]
    fn error(&self) -> Value {
        let error = self.json()["error"].take();
        let keys: Vec<_> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        error
    }

    #[track_caller]
    fn message(&self) -> String {
        self.error()["message"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn send(
    router: Router,
    request: axum::http::request::Builder,
    body: impl Into<Body>,
) -> Answer {
    let request = request.body(body.into()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap()
            .into(),
    }
}

fn post_json(path: &str) -> axum::http::request::Builder {
    Request::post(path).header("content-type", "application/json")
}

/// A request with this `authorization`.
fn get_as(path: &str, authorization: Option<&str>) -> axum::http::request::Builder {
    let request = Request::get(path);
    match authorization {
        Some(header) => request.header("authorization", header),
        None => request,
    }
}

async fn get_path(path: &str) -> Answer {
    send(router(app()), Request::get(path), Body::empty()).await
}

async fn post_body(path: &str, body: impl Into<Body>) -> Answer {
    send(router(app()), post_json(path), body).await
}

#[tokio::test]
async fn unknown_paths_and_methods_get_the_envelope() {
    let answer = get_path("/nope").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.message().contains("/nope"));

    let answer = get_path(CHAT).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(answer.error()["type"], "invalid_request_error");
}

#[tokio::test]
async fn only_json_is_taken() {
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post(CHAT).header("content-type", content_type);
        let answer = send(router(app()), request, "{}").await;
        let expected = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        assert_eq!(answer.status, expected, "{content_type}");
        answer.error();
    }
    for content_type in ["Application/JSON; charset=utf-8", "application/a+json ;a=b"] {
        let request = Request::post(CHAT).header("content-type", content_type);
        let answer = send(router(app()), request, "{}").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_with_the_limit() {
    let answer = post_body(CHAT, vec![b' '; MAX_BODY_BYTES + 1]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let limit = MAX_BODY_BYTES.to_string();
    assert!(answer.message().contains(&limit));
}

#[tokio::test]
async fn bad_json_is_refused_with_its_place() {
    let answer = post_body(CHAT, "{\"messages\":\n [,]}").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.message().contains("line 2 column 3"));
    for body in ["", "[]", "1", "\"text\""] {
        let answer = post_body(CHAT, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.error()["param"], Value::Null);
    }
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let chats = r#"
        {} → messages
        {"messages": "hi"} → messages
        {"messages": [{}]} → messages[0].role
        {"messages": [{"role": "king", "content": ""}]} → messages[0].role
        {"messages": [{"role": "user", "content": 1}]} → messages[0].content
        {"messages": [], "temperature": "hot"} → temperature
        {"messages": [], "max_tokens": 1.5} → max_tokens
        {"messages": [], "stop": 1} → stop
        {"messages": [], "stream_options": {"include_usage": 1}} → stream_options.include_usage
        {"messages": [], "enable_thinking": "yes"} → enable_thinking
        {"messages": [], "n": "two"} → n
    "#;
    let completions = r#"
        {} → prompt
        {"prompt": {}} → prompt
        {"prompt": "", "stream": 1} → stream
        {"prompt": "", "echo": 1} → echo
    "#;
    for (path, cases) in [(CHAT, chats), (COMPLETIONS, completions)] {
        for case in cases.trim().lines() {
            let (body, param) = case.trim().split_once(" → ").unwrap();
            let answer = post_body(path, body.to_owned()).await;
            let error = answer.error();
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(error["param"], param, "{body}: {error}");
            assert!(answer.message().contains(param), "{body}: {error}");
        }
    }
}

#[tokio::test]
async fn unknown_models_are_answered_with_those_there_are() {
    let body = json!({"model": "nope", "prompt": "a"});
    for answer in [
        post_body(COMPLETIONS, body.to_string()).await,
        get_path("/v1/models/nope").await,
    ] {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.error()["code"], "model_not_found");
        let message = answer.message();
        assert!(message.ends_with("org/loading, failed"), "{message}");
    }
}

#[track_caller]
fn check_unavailable(answer: &Answer, code: &str) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(answer.error()["code"], code);
}

#[tokio::test]
async fn a_model_that_loads_is_asked_for_later() {
    for name in [json!(null), json!(""), json!("org/loading"), json!("alias")] {
        let body = json!({"model": name, "messages": [{"role": "user", "content": "Hi"}]});
        let answer = post_body(CHAT, body.to_string()).await;
        check_unavailable(&answer, "model_loading");
    }
    let answer = get_path("/v1/models/org/loading").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = post_body(COMPLETIONS, r#"{"model": "failed", "prompt": ""}"#).await;
    assert!(answer.message().contains("no such file"));
}

#[tokio::test]
async fn a_draining_server_takes_no_new_work() {
    let app = app();
    app.draining.cancel();
    let (router, request) = (router(app), post_json(COMPLETIONS));
    let answer = send(router.clone(), request, r#"{"prompt": "a"}"#).await;
    check_unavailable(&answer, "draining");
    let health = send(router, Request::get("/health"), Body::empty()).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_stopping_server_is_not_ready_but_takes_work() {
    let app = app();
    let router = router(app.clone());
    let get = async |path: &str| send(router.clone(), Request::get(path), Body::empty()).await;
    let check = async |expected: &str| {
        let (ready, live) = (get("/health/ready").await, get("/health/live").await);
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.headers["retry-after"], "5");
        assert_eq!(live.status, StatusCode::OK);
        let expected = json!({"status": expected});
        assert_eq!([ready.json(), live.json()], [expected.clone(), expected]);
        assert_eq!(get("/health").await.json()["status"], "loading");
        let request = post_json(COMPLETIONS);
        let answer = send(router.clone(), request, r#"{"prompt": "a"}"#).await;
        check_unavailable(&answer, "model_loading");
    };
    check("loading").await;
    app.stopping.cancel();
    check("draining").await;
}

#[tokio::test]
async fn health_lists_the_models() {
    for path in ["/", "/health"] {
        let answer = get_path(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers["retry-after"], "5");
        let expected = json!({"status": "loading", "models": [
            {"id": "org/loading", "status": "loading"},
            {"id": "failed", "status": "failed", "error": "no such file"},
        ]});
        assert_eq!(answer.json(), expected);
    }
}

#[tokio::test]
async fn without_a_key_nobody_learns_why_a_model_failed() {
    let app = app_with_keys(&["one"]);
    for (header, expected) in [
        (None, false),
        (Some("Bearer x"), false),
        (Some("Bearer one"), true),
    ] {
        for path in ["/", "/health"] {
            let answer = send(router(app.clone()), get_as(path, header), Body::empty()).await;
            let failed = &answer.json()["models"][1];
            assert_eq!(failed["id"], "failed");
            assert_eq!(failed["status"], "failed");
            let error = failed["error"].as_str().unwrap();
            assert_eq!(error.contains("no such file"), expected, "{error}");
        }
    }
}

#[tokio::test]
async fn what_a_client_sent_comes_back_cut() {
    let long = "x".repeat(5000);
    let request = Request::get(format!("/{long}")).header("x-request-id", &long);
    let answer = send(router(app()), request, Body::empty()).await;
    assert_eq!(answer.headers["x-request-id"].len(), 200);
    assert!(answer.body.len() < 500);
    let check = async |path, body: Value| {
        let answer = post_body(path, body.to_string()).await;
        let shown = String::from_utf8_lossy(&answer.body);
        assert!(answer.body.len() < 1000, "{shown:.300}");
        assert!(!answer.status.is_success());
    };
    for body in [
        json!({"messages": [], "model": long}),
        json!({"messages": [{"role": long, "content": ""}]}),
        json!({"messages": [], long.clone(): 1, "tools": [{"type": long}]}),
    ] {
        check(CHAT, body).await;
    }
    for body in [
        json!({"prompt": "a", "model": long}),
        json!({"prompt": "a", "temperature": long}),
        json!({"prompt": "a", "grammar": {"type": long}}),
        json!({"prompt": "a", "logit_bias": {long.clone(): "x"}}),
    ] {
        check(COMPLETIONS, body).await;
    }
    let method = Method::from_bytes(&long.as_bytes()[..2000]).unwrap();
    let request = Request::builder().method(method).uri(CHAT);
    let answer = send(router(app()), request, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.body.len() < 500);
}

#[tokio::test]
async fn only_models_that_answer_are_listed() {
    let answer = get_path("/v1/models").await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected = json!({"object": "list", "data": []});
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn requests_are_counted() {
    let router = router(app());
    let ask = async |path: &str| send(router.clone(), Request::get(path), Body::empty()).await;
    ask("/v1/models/nope").await;
    ask("/nope").await;
    let answer = ask("/metrics").await;
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("text/plain"));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        r#"tenon_http_requests_total{route="/v1/models/{*name}",status="404"} 1"#,
        r#"tenon_http_requests_total{route="unknown",status="404"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let id = get_path("/v1/models").await.headers["x-request-id"].clone();
    assert_eq!(id.len(), 36);
    let request = Request::get("/nope").header("x-request-id", "mine");
    let answer = send(router(app()), request, Body::empty()).await;
    assert_eq!(answer.headers["x-request-id"], "mine");
}

#[tokio::test]
async fn any_key_will_do_unless_keys_are_configured() {
    let status = async |keys: &[&str], path: &str, header: Option<&str>| {
        let router = router(app_with_keys(keys));
        let answer = send(router, get_as(path, header), Body::empty()).await;
        answer.status
    };
    for header in [None, Some("Bearer EMPTY"), Some("nonsense")] {
        assert_eq!(status(&[], "/v1/models", header).await, StatusCode::OK);
    }
    let keys = ["one", "two"];
    for header in [Some("Bearer one"), Some("bearer two")] {
        assert_eq!(status(&keys, "/v1/models", header).await, StatusCode::OK);
    }
    let refused = StatusCode::UNAUTHORIZED;
    let wrong = ["Bearer", "Bearer on", "Bearer one2", "Basic one"].map(Some);
    for header in [&[None][..], &wrong].concat() {
        assert_eq!(status(&keys, "/v1/models", header).await, refused);
    }
    let status_with = async |name: &str, key: &str| {
        let request = get_as("/v1/models", Some("Bearer wrong")).header(name, key);
        let answer = send(router(app_with_keys(&keys)), request, Body::empty()).await;
        answer.status
    };
    assert_eq!(status_with("x-api-key", "two").await, StatusCode::OK);
    assert_eq!(status_with("x-api-key", "three").await, refused);
    assert_eq!(status_with("api-key", "two").await, refused);
    // The health is open, because a load balancer has no key.
    let health = status(&keys, "/health", None).await;
    assert_eq!(health, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_wrong_key_gets_the_envelope() {
    let answer = send(router(app_with_keys(&["k"])), post_json(CHAT), "{}").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    assert_eq!(answer.error()["code"], "invalid_api_key");
}

#[tokio::test]
async fn a_panic_gets_the_envelope() {
    async fn panics() {
        panic!("a bug");
    }
    let app = app();
    let router = surround(Router::new().route("/panic", get(panics)), &app).with_state(app);
    let answer = send(router, Request::get("/panic"), Body::empty()).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.error()["type"], "server_error");
}

/// A plain answer is cancelled by dropping it, so a handler must not outlive its client.
#[tokio::test]
async fn a_handler_ends_with_its_client() {
    struct TellsOnDrop(UnboundedSender<&'static str>);

    impl Drop for TellsOnDrop {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }

    let (sender, mut events) = unbounded_channel();
    let hang = move || {
        let guard = TellsOnDrop(sender.clone());
        async move {
            let _ = guard.0.send("running");
            std::future::pending::<()>().await;
            drop(guard);
        }
    };
    let app = app();
    let router = surround(Router::new().route("/hang", get(hang)), &app).with_state(app.clone());
    let listen = app.now().config.server.listen[0].clone();
    let listener = Listener::bind(&listen, None).await.unwrap();
    let url = listener.url().unwrap();
    let address = url.strip_prefix("http://").unwrap();
    let counters = connections::ConnectionMetrics::register(&app.metrics.registry).unwrap();
    let register = Register::new(Limits::new(&app.now().config.server), counters);
    let server = tokio::spawn(connections::accept(listener, router, Arc::new(register)));

    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!(events.recv().await, Some("running"));
    drop(client);
    let event = timeout(Duration::from_secs(10), events.recv()).await;
    assert_eq!(event, Ok(Some("dropped")));
    server.abort();
}

mod admin;
mod anthropic;
mod browsers;
mod docs;
mod page;
