//! Authorized clients load, unload and reload models while the server runs.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Events, PATIENCE, Server, ServerOptions, chat, ends_within, start_echo};
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";
const MODELS: &str = "/admin/models";
const REQUANTIZE: &str = "/re_isq";
const ECHO: &str = "tenon_plugin_echo";
const LEVELS: &str = "tenon_fixture_levels";
/// How long a worker may live after its model was unloaded.
const END: Duration = Duration::from_secs(2);
/// Number of streams while a model is reloaded.
const STREAMS: usize = 8;
/// Number of times that a model is loaded and unloaded.
const ROUNDS: usize = 5;

#[tokio::test]
async fn without_admin_keys_requests_through_proxies_and_of_web_pages_are_refused() {
    let (_server, client) = start_echo("");
    assert_eq!(client.get(MODELS).await.0, StatusCode::OK);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("origin", "https://evil.example"),
    ] {
        for (method, path) in [
            (Method::GET, MODELS),
            (Method::POST, "/admin/models/echo/unload"),
        ] {
            let request = client.request(method, path).header(name, value);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}");
            let answer: Value = response.json().await.unwrap();
            assert_eq!(answer["error"]["code"], "admin_is_local");
        }
    }
    check_echo(&client).await;
}

#[tokio::test]
async fn admin_keys_are_needed_and_never_logged() {
    let mut server = server_with_keys("");
    let client = server.client();
    let post = async |client: &Client, path: &str| {
        let (status, answer) = client.post(path, &json!({"ggml_type": "Q8_0"})).await;
        (status.as_u16(), answer["error"]["code"].clone())
    };
    for path in ["/admin/models/echo/unload", REQUANTIZE] {
        let (nobody, user) = (client.clone(), client.with_key("user-5f0f"));
        assert_eq!(post(&nobody, path).await, (401, json!("invalid_api_key")));
        assert_eq!(post(&user, path).await, (403, json!("admin_key_needed")));
    }
    let admin = client.with_key("admin-b41d");
    let (status, _) = post(&admin, "/admin/models/echo/unload").await;
    assert_eq!(status, 200);
    // 503 instead of 401 or 403: the key is accepted, but the model is not loaded.
    assert_eq!(post(&admin, REQUANTIZE).await.0, 503);
    server.signal("TERM");
    server.wait();
    let log = server.rest_of_log();
    assert!(!log.contains("admin-b41d"), "{log}");
}

#[tokio::test]
async fn requantizing_can_stay_open_to_api_keys() {
    let mut server = server_with_keys("requantize_keys = 'all'");
    let client = server.client().with_key("user-5f0f");
    let (status, answer) = client.post(REQUANTIZE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}

#[tokio::test]
async fn a_model_can_be_unloaded_and_loaded_again() {
    let (server, client) = start_echo("");
    let model = model(&client, "echo").await;
    let loaded = &model["loaded"];
    let worker = server.worker();
    assert_eq!(model["state"], "ready");
    assert_eq!(loaded["process_id"], worker);
    assert!(loaded["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(loaded["plugin"]["id"], "org.tenon.echo");
    assert_eq!(loaded["plugin"]["version"], env!("CARGO_PKG_VERSION"));
    let path = loaded["plugin"]["path"].as_str().unwrap();
    assert!(path.ends_with("libtenon_plugin_echo.so"), "{path}");

    assert_eq!(change(&client, "echo", "unload").await, "unloaded");
    assert!(ends_within(worker, END), "the worker runs on");
    assert_eq!(server.workers(), Vec::<u32>::new());
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["error"]["code"], "model_unloaded");
    let (status, health) = client.get("/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health["status"], "unloaded");
    assert_eq!(client.get("/v1/models").await.1["data"], json!([]));
    assert_eq!(change(&client, "echo", "unload").await, "already_unloaded");
    check_refused(&client, "/admin/models/echo/reload", "model_not_loaded").await;

    assert_eq!(change(&client, "echo", "load").await, "loaded");
    assert_eq!(change(&client, "echo", "load").await, "already_loaded");
    check_echo(&client).await;
    assert_eq!(server.workers().len(), 1);
}

#[tokio::test]
async fn unloading_gives_the_memory_back() {
    let (server, client) = start_echo("");
    let mut first = None;
    for _ in 0..ROUNDS {
        check_echo(&client).await;
        change(&client, "echo", "unload").await;
        // The server returns what it has freed within a second or so.
        sleep(END).await;
        let now = resources(server.pid());
        let (bytes, files) = *first.get_or_insert(now);
        assert!(now.0 <= bytes + bytes / 20 + (1 << 20), "{now:?} {first:?}");
        assert_eq!(now.1, files, "open files");
        change(&client, "echo", "load").await;
    }
}

#[tokio::test]
async fn an_unloaded_model_finishes_its_streams() {
    let mut server = slow_echo("");
    let client = server.client();
    let worker = server.worker();
    let (stream, text) = begin(&client).await;
    assert_eq!(change(&client, "echo", "unload").await, "unloaded");
    assert_eq!(stream.all_text().await, text);
    assert!(ends_within(worker, END), "the worker runs on");
}

#[tokio::test]
async fn a_model_is_reloaded_under_streams() {
    let mut server = slow_echo("");
    let client = server.client();
    let mut old = server.worker();
    for _ in 0..3 {
        let streams = join_all((0..STREAMS).map(|_| begin(&client))).await;
        assert_eq!(change(&client, "echo", "reload").await, "reloaded");
        let new = model(&client, "echo").await["loaded"]["process_id"].clone();
        assert_ne!(new, old);
        check_echo(&client).await;
        for (stream, text) in streams {
            assert_eq!(stream.all_text().await, text);
        }
        assert!(ends_within(old, END), "the old worker runs on");
        old = server.worker();
        assert_eq!(new, old);
    }
}

#[tokio::test]
async fn a_reload_that_fails_leaves_the_model_as_it_is() {
    let (server, client) = start_echo("");
    let worker = server.worker();
    fs::write(server.home().join("echo.echo"), "no number").unwrap();
    let (status, answer) = post(&client, "/admin/models/echo/reload").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    assert_eq!(answer["error"]["code"], "load_failed");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("holds one number"), "{message}");
    check_echo(&client).await;
    assert_eq!(server.worker(), worker);
}

#[tokio::test]
async fn a_reloaded_model_keeps_its_level() {
    let mut server = levels("plain");
    let client = server.client();
    let (status, _) = client.post(REQUANTIZE, &json!({"ggml_type": "Q8_0"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(change(&client, "plain", "reload").await, "reloaded");
    let level = model(&client, "plain").await["loaded"]["quantization"].clone();
    assert_eq!(level, "Q8_0");
}

#[tokio::test]
async fn only_one_change_at_a_time() {
    let mut server = levels("waits");
    let client = server.client();
    let mut change = client
        .open("/re_isq?stream=true", &json!({"ggml_type": "Q8_0"}))
        .await;
    change.next().await.unwrap();
    for what in ["load", "unload", "reload"] {
        let path = format!("/admin/models/waits/{what}");
        check_refused(&client, &path, "model_changing").await;
    }
    fs::write(server.home().join("go"), "").unwrap();
    while change.next().await.is_some() {}
    assert_eq!(model(&client, "waits").await["state"], "ready");
}

#[tokio::test]
async fn the_first_request_loads_a_model_that_is_on_demand() {
    let mut server = on_demand("");
    let client = server.client();
    let (status, health) = client.get("/health").await;
    assert_eq!((status, &health["status"]), (StatusCode::OK, &json!("ok")));
    let (_, listed) = client.get("/v1/models").await;
    let listed = &listed["data"][0];
    assert_eq!(listed["id"], "echo");
    assert_eq!(listed["aliases"], json!(["gpt"]));
    assert_eq!(listed["state"], "unloaded");
    assert_eq!(client.get("/v1/models/gpt").await.1["state"], "unloaded");
    assert_eq!(server.workers(), Vec::<u32>::new());
    // One load serves all requests that wait for it.
    join_all((0..STREAMS).map(|_| check_echo(&client))).await;
    assert_eq!(server.workers().len(), 1);
    assert_eq!(client.get("/v1/models/gpt").await.1["state"], "ready");
    server.signal("TERM");
    server.wait();
    assert_eq!(server.rest_of_log().matches("model ready").count(), 1);
}

#[tokio::test]
async fn a_model_on_demand_that_was_unloaded_is_loaded_by_the_next_request() {
    let mut server = on_demand("");
    let client = server.client();
    for _ in 0..3 {
        check_echo(&client).await;
        assert_eq!(change(&client, "echo", "unload").await, "unloaded");
    }
}

#[tokio::test]
async fn a_model_on_demand_that_failed_is_tried_again() {
    let mut server = on_demand("backend = 'org.tenon.echo'");
    let client = server.client();
    fs::write(server.home().join("echo.echo"), "no number").unwrap();
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["error"]["code"], "model_failed");
    let model = model(&client, "echo").await;
    assert_eq!(model["state"], "unloaded");
    assert!(model["error"].as_str().unwrap().contains("one number"));
    fs::write(server.home().join("echo.echo"), "0").unwrap();
    check_echo(&client).await;
}

#[tokio::test]
async fn an_idle_model_is_unloaded_and_loaded_by_the_next_request() {
    let mut server = on_demand("idle_unload_secs = 1");
    let client = server.client();
    for _ in 0..2 {
        check_echo(&client).await;
        let deadline = Instant::now() + PATIENCE;
        while !server.workers().is_empty() {
            assert!(Instant::now() < deadline, "the idle model stays");
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(model(&client, "echo").await["state"], "unloaded");
    }
}

/// Schedulers read the metrics many times a second.
#[tokio::test]
async fn who_reads_the_metrics_does_not_keep_a_model_loaded() {
    let mut server = on_demand("idle_unload_secs = 1");
    let client = server.client();
    check_echo(&client).await;
    let readers = [(); 4].map(|()| {
        let reader = client.clone();
        tokio::spawn(async move {
            loop {
                let metrics = reader.request(Method::GET, "/metrics").send().await;
                assert_eq!(metrics.expect("an answer").status(), StatusCode::OK);
            }
        })
    });
    let deadline = Instant::now() + PATIENCE;
    while !server.workers().is_empty() {
        assert!(Instant::now() < deadline, "the idle model stays");
        sleep(Duration::from_millis(20)).await;
    }
    for reader in readers {
        assert!(!reader.is_finished());
        reader.abort();
    }
}

#[tokio::test]
async fn a_model_with_a_running_stream_is_not_idle() {
    let mut server = slow_echo("idle_unload_secs = 1");
    let client = server.client();
    let worker = server.worker();
    let (stream, text) = begin(&client).await;
    assert_eq!(stream.all_text().await, text);
    assert_eq!(server.worker(), worker);
    assert_eq!(model(&client, "echo").await["state"], "ready");
}

/// A server of an echo model that is loaded on demand, with these keys in its `[[models]]`.
fn on_demand(keys: &str) -> Server {
    let model = "[[models]]\npath = 'echo.echo'\naliases = ['gpt']\nload = 'on-demand'";
    let config = format!("{model}\n{keys}\n");
    let options = ServerOptions::new(&[ECHO]).file("echo.echo", "0");
    options.config(&config).spawn()
}

/// A server of an echo model that writes 100 bytes a second, with these keys in its `[engine]`.
fn slow_echo(keys: &str) -> Server {
    let config = format!("[engine]\nmax_draft_tokens = 0\n{keys}\n");
    ServerOptions::echo(10).config(&config).start()
}

/// A server of a model of the fixture that has levels.
fn levels(name: &str) -> Server {
    let file = format!("{name}.levels");
    ServerOptions::new(&[LEVELS])
        .file(&file, "")
        .config(&format!("[[models]]\npath = '{file}'\n"))
        .start()
}

/// A server with an API key, an admin key and these keys in its `[server]`.
fn server_with_keys(keys: &str) -> Server {
    let config =
        format!("[server]\napi_keys = ['user-5f0f']\nadmin_keys = ['admin-b41d']\n{keys}\n");
    ServerOptions::echo(0).config(&config).start()
}

/// A stream whose first text has arrived, and the text that is to follow. It takes a few seconds.
async fn begin(client: &Client) -> (Events, String) {
    let message = "The quick brown fox jumps over the lazy dog. ".repeat(8);
    let message = message.trim_end();
    let parameters = json!({"model": "echo", "temperature": 0});
    let mut stream = client.open(CHAT, &chat(message, parameters)).await;
    let first = stream.next_text().await;
    let rest = message.strip_prefix(&first).expect("an echo");
    (stream, rest.to_owned())
}

async fn check_echo(client: &Client) {
    let parameters = json!({"model": "echo", "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
}

/// What `GET /admin/models` reports of a model.
async fn model(client: &Client, id: &str) -> Value {
    let (status, list) = client.get(MODELS).await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let models = list["data"].as_array().unwrap();
    let found = models.iter().find(|model| model["id"] == id);
    found.cloned().unwrap()
}

async fn post(client: &Client, path: &str) -> (StatusCode, Value) {
    let request = client.request(Method::POST, path);
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Changes a model, for example with `reload`. Returns the outcome that the server reports.
async fn change(client: &Client, id: &str, what: &str) -> String {
    let (status, answer) = post(client, &format!("{MODELS}/{id}/{what}")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["model"]["id"], id);
    answer["outcome"].as_str().unwrap().to_owned()
}

async fn check_refused(client: &Client, path: &str, code: &str) {
    let (status, answer) = post(client, path).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert_eq!(answer["error"]["code"], code);
}

/// Bytes of memory and number of open files of a process.
fn resources(id: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    (kibibytes * 1024, files)
}
