//! A directory of models: each is served on demand, and files come and go while the server runs. A budget bounds the memory of
//! all models together.

use std::{fs, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};
use tokio::time::sleep;

const ECHO: &str = "tenon_plugin_echo";
const CHAT: &str = "/v1/chat/completions";
const ENGINE: &str = "[engine]\nmax_draft_tokens = 0";
const DIRECTORY: &str = "[[models]]\ndirectory = 'models'\n";

#[tokio::test]
async fn every_model_of_a_directory_is_loaded_by_the_first_request_for_it() {
    let (server, client) = start("", &["models/b.echo", "models/a.echo", "models/notes.txt"]);
    check_states(&client, &[("a", "unloaded"), ("b", "unloaded")]).await;
    assert_eq!(server.workers(), Vec::<u32>::new());
    check_echo(&client, "b").await;
    check_states(&client, &[("a", "unloaded"), ("b", "ready")]).await;
    assert_eq!(server.workers().len(), 1);
    // The first model is the default.
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    assert_eq!(server.workers().len(), 2);
}

#[tokio::test]
async fn files_that_appear_and_go_count_without_a_restart() {
    let (server, client) = start("", &["models/a.echo"]);
    check_echo(&client, "a").await;
    let models = server.home().join("models");
    fs::write(models.join("b.echo"), "0").unwrap();
    wait_for(&client, &["a", "b"]).await;
    check_echo(&client, "b").await;
    fs::remove_file(models.join("a.echo")).unwrap();
    wait_for(&client, &["b"]).await;
    let body = chat("Hi", json!({"model": "a"}));
    assert_eq!(client.post(CHAT, &body).await.0, StatusCode::NOT_FOUND);
    // The other model was not touched.
    check_states(&client, &[("b", "ready")]).await;
}

#[tokio::test]
async fn models_in_the_servers_process_may_come_and_go_too() {
    let config = format!("{DIRECTORY}isolation = 'none'\n");
    let options = ServerOptions::new(&[ECHO]).file("models/a.echo", "0");
    let mut server = options.config(&config).spawn();
    let client = server.client();
    let file = server.home().join("models/a.echo");
    for _ in 0..2 {
        wait_for(&client, &["a"]).await;
        check_echo(&client, "a").await;
        fs::remove_file(&file).unwrap();
        wait_for(&client, &[]).await;
        fs::write(&file, "0").unwrap();
    }
    assert_eq!(server.workers(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_directory_that_is_made_later_counts_too() {
    let mut server = ServerOptions::new(&[ECHO]).config(DIRECTORY).spawn();
    let client = server.client();
    wait_for(&client, &[]).await;
    fs::create_dir(server.home().join("models")).unwrap();
    fs::write(server.home().join("models/a.echo"), "0").unwrap();
    wait_for(&client, &["a"]).await;
    check_echo(&client, "a").await;
}

#[tokio::test]
async fn a_model_that_the_configuration_names_comes_first() {
    let models = format!("[[models]]\npath = 'named.echo'\nid = 'a'\n{DIRECTORY}");
    let mut server = ServerOptions::new(&[ECHO])
        .file("named.echo", "0")
        .file("models/a.echo", "0")
        .file("models/b.echo", "0")
        .config(&models)
        .start();
    server.wait_for_log("another model is called 'a'");
    let client = server.client();
    check_states(&client, &[("a", "ready"), ("b", "unloaded")]).await;
}

#[tokio::test]
async fn the_least_recently_used_idle_model_makes_room() {
    let (server, client) = start("", &["models/a.echo", "models/b.echo", "models/c.echo"]);
    check_echo(&client, "a").await;
    let one = model(&client, "a").await["loaded"]["memory_bytes"].as_u64();
    let budget = format!("memory_budget_bytes = {}", one.unwrap() * 5 / 2);
    let config = format!("[server]\n{budget}\n{DIRECTORY}");
    fs::write(server.home().join("tenon.toml"), config).unwrap();
    let (status, answer) = client.post("/admin/config/reload", &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    check_echo(&client, "b").await;
    check_echo(&client, "a").await;
    check_echo(&client, "c").await;
    // Model `c` may answer before another model is unloaded for the memory that `c` takes beyond its expected size.
    while model(&client, "b").await["state"] == "ready" {
        sleep(Duration::from_millis(20)).await;
    }
    check_states(
        &client,
        &[("a", "ready"), ("b", "unloaded"), ("c", "ready")],
    )
    .await;
}

#[tokio::test]
async fn a_model_in_use_makes_no_room_and_the_figures_are_told() {
    let (server, client) = start(
        "memory_budget_bytes = 1000",
        &["models/a.echo", "models/b.echo"],
    );
    fs::write(server.home().join("models/a.echo"), "50").unwrap();
    let text = "The quick brown fox jumps over the lazy dog.";
    let parameters = json!({"model": "a", "temperature": 0});
    let mut stream = client.open(CHAT, &chat(text, parameters)).await;
    let first = stream.next_text().await;
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({"model": "b"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    for part in [
        "models in use (a) take ",
        "memory_budget_bytes of 1000",
        "about 1 bytes",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(first + &stream.all_text().await, text);
    // Model `a` is idle now, so it can be unloaded.
    check_echo(&client, "b").await;
}

/// A model is unloaded although it answers. Its memory is not free before its last answer has ended; meanwhile other loads go on.
#[tokio::test]
async fn a_load_waits_for_the_last_requests_of_a_busy_model_alone() {
    let (server, client) = start(
        "memory_budget_bytes = 1000\nunload_busy_models = true",
        &["models/a.echo", "models/b.echo", "models/c.echo"],
    );
    let file = |name: &str| server.home().join("models").join(name);
    fs::write(file("a.echo"), "50").unwrap();
    // The file of this model takes all of the budget.
    fs::write(file("c.echo"), " ".repeat(999) + "0").unwrap();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(100);
    let parameters = json!({"model": "a", "temperature": 0});
    let mut stream = client.open(CHAT, &chat(&text, parameters)).await;
    stream.next_text().await;
    let asked = client.clone();
    let waiting = tokio::spawn(async move { check_echo(&asked, "b").await });
    while model(&client, "a").await["state"] == "ready" {
        sleep(Duration::from_millis(20)).await;
    }
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({"model": "c"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("models in use (b)"), "{message}");
    assert!(!waiting.is_finished(), "there is no room for b so far");
    stream.next_text().await;
    drop(stream);
    waiting.await.unwrap();
}

/// The models of the start take more than the budget together. The first one makes room for the second, and requests load it again.
#[tokio::test]
async fn models_of_the_start_share_a_budget() {
    let (_server, client) = start("", &["models/a.echo"]);
    check_echo(&client, "a").await;
    let one = model(&client, "a").await["loaded"]["memory_bytes"].as_u64();
    let budget = one.unwrap() * 3 / 2;
    let models = "[[models]]\npath = 'a.echo'\n[[models]]\npath = 'b.echo'";
    let config = format!("[server]\nmemory_budget_bytes = {budget}\n{ENGINE}\n{models}");
    let mut server = ServerOptions::new(&[ECHO])
        .file("a.echo", "0")
        .file("b.echo", "0")
        .config(&config)
        .start();
    let client = server.client();
    while model(&client, "a").await["state"] == "ready" {
        sleep(Duration::from_millis(20)).await;
    }
    check_states(&client, &[("a", "unloaded"), ("b", "ready")]).await;
    check_echo(&client, "a").await;
    check_states(&client, &[("a", "ready"), ("b", "unloaded")]).await;
    // What an administrator has unloaded is loaded by an administrator.
    client.post("/admin/models/a/unload", &json!({})).await;
    let (status, _) = client.post(CHAT, &chat("Hi", json!({"model": "a"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    check_echo(&client, "b").await;
}

/// Two loads at the same time do not count each other before they have room.
#[tokio::test]
async fn one_of_two_loads_at_the_same_time_gets_the_room() {
    let (server, client) = start(
        "memory_budget_bytes = 1000",
        &["models/a.echo", "models/b.echo"],
    );
    for name in ["a", "b"] {
        let file = server.home().join(format!("models/{name}.echo"));
        fs::write(file, " ".repeat(599) + "0").unwrap();
    }
    let asked = ["a", "b"].map(|name| {
        let client = client.clone();
        async move {
            client
                .post(CHAT, &chat("Hi", json!({"model": name})))
                .await
                .0
        }
    });
    let [a, b] = asked;
    let (a, b) = tokio::join!(a, b);
    assert!([a, b].contains(&StatusCode::OK), "{a} {b}");
}

#[tokio::test]
async fn a_model_larger_than_the_budget_is_refused() {
    let (server, client) = start("memory_budget_bytes = 10", &["models/a.echo"]);
    fs::write(server.home().join("models/a.echo"), " ".repeat(20) + "0").unwrap();
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({"model": "a"}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("21 bytes, more than the memory_budget_bytes of 10"),
        "{message}"
    );
}

/// A server of a directory of models, with these keys in its `[server]`.
fn start(keys: &str, files: &[&str]) -> (Server, Client) {
    let mut options = ServerOptions::new(&[ECHO]);
    for file in files {
        options = options.file(file, "0");
    }
    let config = format!("[server]\nwatch_config = false\n{keys}\n{ENGINE}\n{DIRECTORY}");
    let mut server = options.config(&config).spawn();
    let client = server.client();
    // All of them are added at once.
    server.wait_for_log("model added");
    (server, client)
}

async fn list(client: &Client) -> Vec<Value> {
    let (_, list) = client.get("/v1/models").await;
    list["data"].as_array().unwrap().clone()
}

/// Checks which models are listed, and their states.
async fn check_states(client: &Client, expected: &[(&str, &str)]) {
    let models = list(client).await;
    let states: Vec<_> = models
        .iter()
        .map(|model| {
            (
                model["id"].as_str().unwrap(),
                model["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(states, expected);
}

async fn wait_for(client: &Client, expected: &[&str]) {
    loop {
        let models = list(client).await;
        let ids: Vec<_> = models
            .iter()
            .filter_map(|model| model["id"].as_str())
            .collect();
        if ids == expected {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What `GET /admin/models` reports of a model.
async fn model(client: &Client, id: &str) -> Value {
    let (_, list) = client.get("/admin/models").await;
    let models = list["data"].as_array().unwrap();
    let found = models.iter().find(|model| model["id"] == id);
    found.cloned().unwrap()
}

async fn check_echo(client: &Client, id: &str) {
    let parameters = json!({"model": id, "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
}
