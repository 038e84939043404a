//! The configuration changes while the server runs.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, ends_within};
use tokio::time::sleep;

const ECHO: &str = "tenon_plugin_echo";
const LEVELS: &str = "tenon_fixture_levels";
const CHAT: &str = "/v1/chat/completions";
const RELOAD: &str = "/admin/config/reload";
const ONE: &str = "[[models]]\npath = 'one.echo'\n";
const TWO: &str = "[[models]]\npath = 'two.echo'\n";
/// Keeps the server from noticing a change of the file before the test asks it to read the file.
const BY_REQUEST: &str = "watch_config = false";
/// Longer than a worker lives after its model was removed.
const END: Duration = Duration::from_secs(3);

#[tokio::test]
async fn models_are_added_and_removed() {
    let (server, client) = start(BY_REQUEST, &[ONE]);
    let changes = change(&server, &client, BY_REQUEST, &[ONE, TWO]).await;
    assert_eq!(changes["models"], models(&["two"], &[], &[], &[]));
    assert_eq!(changes["changed"], json!([]));
    assert_eq!(ids(&client).await, ["one", "two"]);
    for id in ["one", "two"] {
        check_echo(&client, id).await;
    }
    assert_eq!(server.workers().len(), 2);
    let worker = worker(&client, "one").await;

    let changes = change(&server, &client, BY_REQUEST, &[TWO]).await;
    assert_eq!(changes["models"], models(&[], &["one"], &[], &[]));
    assert_eq!(ids(&client).await, ["two"]);
    assert!(ends_within(worker, END), "the worker runs on");
    wait_until_forgotten(&client, "=\"one\"").await;
    let body = chat("Hi", json!({"model": "one"}));
    assert_eq!(client.post(CHAT, &body).await.0, StatusCode::NOT_FOUND);
    // The first model is the default.
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    // A model that comes back is a new one.
    change(&server, &client, BY_REQUEST, &[TWO, ONE]).await;
    check_echo(&client, "one").await;
}

#[tokio::test]
async fn a_removed_model_finishes_its_streams() {
    let (server, client) = start(BY_REQUEST, &[ONE, TWO]);
    fs::write(server.home().join("one.echo"), "10").unwrap();
    let reloaded = client.request(Method::POST, "/admin/models/one/reload");
    assert!(reloaded.send().await.unwrap().status().is_success());
    let text = "The quick brown fox jumps over the lazy dog.";
    let parameters = json!({"model": "one", "temperature": 0});
    let mut stream = client.open(CHAT, &chat(text, parameters)).await;
    let first = stream.next_text().await;
    change(&server, &client, BY_REQUEST, &[TWO]).await;
    assert_eq!(first + &stream.all_text().await, text);
}

#[tokio::test]
async fn only_models_whose_settings_changed_are_loaded_again() {
    let (server, client) = start(BY_REQUEST, &[ONE, TWO]);
    let before = [worker(&client, "one").await, worker(&client, "two").await];
    let changed = format!("{TWO}context_length = 77\n");
    let changes = change(&server, &client, BY_REQUEST, &[ONE, &changed]).await;
    assert_eq!(changes["models"], models(&[], &[], &["two"], &[]));
    assert_eq!(worker(&client, "one").await, before[0]);
    assert_ne!(worker(&client, "two").await, before[1]);
    let (_, two) = client.get("/v1/models/two").await;
    assert_eq!(two["context_length"], 77);

    // Names and limits that the server checks need no other worker.
    let named = format!("{ONE}aliases = ['gpt']\nmax_output_tokens = 5\n");
    let changes = change(&server, &client, BY_REQUEST, &[&named, &changed]).await;
    assert_eq!(changes["models"], models(&[], &[], &[], &["one"]));
    assert_eq!(worker(&client, "one").await, before[0]);
    check_echo(&client, "gpt").await;
    let body = chat("Hi", json!({"model": "gpt", "max_tokens": 6}));
    assert_eq!(client.post(CHAT, &body).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_reloaded_model_keeps_its_level_unless_that_was_changed() {
    let keys = "[[models]]\npath = 'plain.levels'\n";
    let options = ServerOptions::new(&[LEVELS]).file("plain.levels", "");
    let mut server = options.config(&config(BY_REQUEST, &[keys])).start();
    let client = server.client();
    let level = async || model(&client, "plain").await["loaded"]["quantization"].clone();
    let asked = json!({"ggml_type": "Q8_0"});
    assert_eq!(client.post("/re_isq", &asked).await.0, StatusCode::OK);
    let other = format!("{keys}max_sequences = 3\n");
    change(&server, &client, BY_REQUEST, &[&other]).await;
    assert_eq!(level().await, "Q8_0");
    let other = format!("{keys}quantize = 'Q4_K'\n");
    change(&server, &client, BY_REQUEST, &[&other]).await;
    assert_eq!(level().await, "Q4_K");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_by_its_new_settings_goes_on_as_before() {
    let (server, client) = start(BY_REQUEST, &[ONE]);
    let before = worker(&client, "one").await;
    let wrong = format!("{ONE}backend = 'nothing'\n");
    let changes = change(&server, &client, BY_REQUEST, &[&wrong]).await;
    let failed = &changes["models"]["failed"][0];
    assert_eq!(failed["id"], "one");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("no backend `nothing`"), "{error}");
    check_echo(&client, "one").await;
    assert_eq!(worker(&client, "one").await, before);
}

#[tokio::test]
async fn keys_and_limits_count_at_once() {
    let (server, client) = start(BY_REQUEST, &[ONE]);
    let keys = format!("{BY_REQUEST}\napi_keys = ['user-1f']\nmax_body_bytes = 100\nport = 1");
    let changes = change(&server, &client, &keys, &[ONE]).await;
    let changed = json!(["server.max_body_bytes", "server.api_keys"]);
    assert_eq!(changes["changed"], changed);
    assert_eq!(changes["needs_restart"], json!([]), "--port says otherwise");
    assert_eq!(changes["models"], models(&[], &[], &[], &[]));
    let body = chat("Hi", json!({"temperature": 0}));
    let (status, _) = client.post(CHAT, &body).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let client = client.with_key("user-1f");
    check_echo(&client, "one").await;
    let (status, _) = client.post(CHAT, &chat(&"x".repeat(100), json!({}))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let of_key = "=\"api_keys[0]\"";
    assert!(client.get_text("/metrics").await.contains(of_key));
    change(&server, &client, BY_REQUEST, &[ONE]).await;
    wait_until_forgotten(&client, of_key).await;
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_and_stay() {
    let (server, client) = start(BY_REQUEST, &[ONE]);
    let keys = format!("{BY_REQUEST}\nlog_format = 'json'\nhost = '127.0.0.2'");
    for _ in 0..2 {
        let changes = change(&server, &client, &keys, &[ONE]).await;
        let named = json!(["server.host", "server.log_format"]);
        assert_eq!(changes["needs_restart"], named);
        assert_eq!(changes["changed"], json!([]));
    }
    check_echo(&client, "one").await;
}

#[tokio::test]
async fn a_model_in_the_servers_process_keeps_its_settings_until_a_restart() {
    let here = format!("{ONE}isolation = 'none'\n");
    let (server, client) = start(BY_REQUEST, &[&here]);
    let other = format!("{here}context_length = 77\n");
    for _ in 0..2 {
        let changes = change(&server, &client, BY_REQUEST, &[&other]).await;
        assert_eq!(changes["models"]["needs_restart"], json!(["one"]));
    }
    let (_, one) = client.get("/v1/models/one").await;
    assert_ne!(one["context_length"], 77);
    check_echo(&client, "one").await;
}

#[tokio::test]
async fn a_model_in_the_servers_process_comes_back_and_counts_anew() {
    let here = format!("{ONE}isolation = 'none'\n");
    let (server, client) = start(BY_REQUEST, &[&here, TWO]);
    check_echo(&client, "one").await;
    let tokens = async || {
        client
            .metric("tenon_engine_generated_tokens_total{model=\"one\"}")
            .await
    };
    let before = tokens().await;
    let changes = change(&server, &client, BY_REQUEST, &[TWO]).await;
    assert_eq!(changes["models"], models(&[], &["one"], &[], &[]));
    assert!(before > 0.0);
    wait_until_forgotten(&client, "=\"one\"").await;
    let changes = change(&server, &client, BY_REQUEST, &[TWO, &here]).await;
    assert_eq!(changes["models"], models(&["one"], &[], &[], &[]));
    check_echo(&client, "one").await;
    assert_eq!(tokens().await, before);
    // It may also come back into a worker.
    change(&server, &client, BY_REQUEST, &[TWO]).await;
    wait_until_forgotten(&client, "=\"one\"").await;
    change(&server, &client, BY_REQUEST, &[TWO, ONE]).await;
    check_echo(&client, "one").await;
    assert_eq!(tokens().await, before);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let (mut server, client) = start(BY_REQUEST, &[ONE]);
    let worker = server.worker();
    let file = server.home().join("tenon.toml");
    for (text, why) in [
        ("[server]\nprot = 1\n", "did you mean \"port\"?"),
        ("[server\n", "tenon.toml:1: "),
        ("", "there is no model to serve"),
    ] {
        fs::write(&file, text).unwrap();
        let (status, answer) = client.post(RELOAD, &json!({})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(answer["error"]["code"], "invalid_config");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
        server.wait_for_log("the configuration stays as it is");
        check_echo(&client, "one").await;
    }
    assert_eq!(server.worker(), worker);
}

#[tokio::test]
async fn sighup_reads_the_configuration_again() {
    let (mut server, client) = start(BY_REQUEST, &[ONE]);
    write(server.home(), BY_REQUEST, &[ONE, TWO]);
    server.signal("HUP");
    server.wait_for_log("the configuration was read again");
    check_echo(&client, "two").await;
    server.signal("HUP");
    server.wait_for_log("nothing has changed");
}

#[tokio::test]
async fn a_changed_file_is_noticed_however_it_was_changed() {
    let (server, client) = start("", &[ONE]);
    let home = server.home();
    write(home, "", &[ONE, TWO]);
    wait_for_models(&client, &["one", "two"]).await;
    // Editors write another file and rename it.
    fs::write(home.join("new"), config("", &[TWO])).unwrap();
    fs::rename(home.join("new"), home.join("tenon.toml")).unwrap();
    wait_for_models(&client, &["two"]).await;
    // A wrong file in between changes nothing.
    fs::write(home.join("tenon.toml"), "[server\n").unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ids(&client).await, ["two"]);
    write(home, "", &[ONE]);
    wait_for_models(&client, &["one"]).await;
}

/// A config map of Kubernetes is a folder of links to files in a folder, which is a link that is replaced.
#[tokio::test]
async fn a_config_map_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path();
    let version = |name: &str, models: &[&str]| {
        fs::create_dir(map.join(name)).unwrap();
        fs::write(map.join(name).join("tenon.toml"), absolute(map, models)).unwrap();
        symlink(name, map.join("..next")).unwrap();
        fs::rename(map.join("..next"), map.join("..data")).unwrap();
    };
    for model in ["one.echo", "two.echo"] {
        fs::write(map.join(model), "0").unwrap();
    }
    version("..first", &["one.echo"]);
    symlink("..data/tenon.toml", map.join("tenon.toml")).unwrap();
    let file = map.join("tenon.toml");
    let options = ServerOptions::new(&[ECHO]);
    let mut server = options
        .arguments(&["--config", file.to_str().unwrap()])
        .start();
    let client = server.client();
    version("..second", &["one.echo", "two.echo"]);
    wait_for_models(&client, &["one", "two"]).await;
    version("..third", &["two.echo"]);
    wait_for_models(&client, &["two"]).await;
}

/// A server of these models, with these keys in its `[server]`.
fn start(keys: &str, models: &[&str]) -> (Server, Client) {
    let options = ServerOptions::new(&[ECHO])
        .file("one.echo", "0")
        .file("two.echo", "0");
    let mut server = options.config(&config(keys, models)).start();
    let client = server.client();
    (server, client)
}

fn config(keys: &str, models: &[&str]) -> String {
    format!("[server]\n{keys}\n{}", models.concat())
}

/// A configuration of models in a folder.
fn absolute(folder: &Path, models: &[&str]) -> String {
    let model = |name: &&str| format!("[[models]]\npath = '{}/{name}'\n", folder.display());
    models.iter().map(model).collect()
}

fn write(home: &Path, keys: &str, models: &[&str]) {
    fs::write(home.join("tenon.toml"), config(keys, models)).unwrap();
}

/// Changes the file and has it read. Returns what that has changed.
async fn change(server: &Server, client: &Client, keys: &str, models: &[&str]) -> Value {
    write(server.home(), keys, models);
    let (status, answer) = client.post(RELOAD, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

fn models(added: &[&str], removed: &[&str], reloaded: &[&str], changed: &[&str]) -> Value {
    json!({
        "added": added, "removed": removed, "reloaded": reloaded, "changed": changed,
        "needs_restart": [], "failed": [],
    })
}

async fn ids(client: &Client) -> Vec<String> {
    let (_, list) = client.get("/v1/models").await;
    let models = list["data"].as_array().unwrap().iter();
    models
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn wait_for_models(client: &Client, expected: &[&str]) {
    while ids(client).await != expected {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until no metric has this label.
async fn wait_until_forgotten(client: &Client, label: &str) {
    while client.get_text("/metrics").await.contains(label) {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn model(client: &Client, id: &str) -> Value {
    let (_, list) = client.get("/admin/models").await;
    let models = list["data"].as_array().unwrap();
    let found = models.iter().find(|model| model["id"] == id);
    found.cloned().unwrap()
}

/// The process of a model. Waits until it is loaded.
async fn worker(client: &Client, id: &str) -> u32 {
    loop {
        let loaded = model(client, id).await["loaded"].clone();
        if let Some(process) = loaded["process_id"].as_u64() {
            return process as u32;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn check_echo(client: &Client, id: &str) {
    let parameters = json!({"model": id, "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
}
