//! Plugins that appear in a plugin directory, are replaced or are removed while the server runs.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{
    Client, PATIENCE, Server, ServerOptions, artifacts, chat, ends_within, install, kill, list,
};
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";
const ECHO: &str = "tenon_plugin_echo";
const FILE: &str = "libtenon_plugin_echo.so";

#[tokio::test]
async fn a_plugin_that_is_dropped_in_is_used_without_a_restart() {
    let (mut server, client) = spawn("");
    server.wait_for_log("no model is served until a plugin");
    wait_for_failure(&client, "plugins has no plugins").await;
    assert_eq!(plugins_of(&client).await["backends"], json!([]));

    fs::copy(artifacts().library(ECHO), file_of(&server)).unwrap();
    wait_for_answer(&client).await;
    server.wait_for_log("plugin found id=\"org.tenon.echo\"");
    let listed = list(&[&server.home().join("plugins")]);
    assert_eq!(listed.ids(), ["org.tenon.echo"]);
    let plugins = plugins_of(&client).await;
    assert_eq!(plugins["backends"][0]["id"], "org.tenon.echo");
    assert_eq!(plugins["refused"], listed.0["refused"]);
    assert_eq!(plugins["warnings"], listed.0["warnings"]);
}

#[tokio::test]
async fn a_model_on_demand_answers_once_its_plugin_is_dropped_in() {
    let keys = "watch = true\n[engine]\nload = 'on-demand'";
    let config = format!("[plugins]\n{keys}\n[[models]]\npath = 'echo.echo'\n");
    let options = ServerOptions::new(&[]).file("echo.echo", "");
    let mut server = options.config(&config).spawn();
    let client = server.client();
    let (status, answer) = client.post(CHAT, &chat("Hi", json!({}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(server.workers(), Vec::<u32>::new());

    fs::copy(artifacts().library(ECHO), file_of(&server)).unwrap();
    server.wait_for_log("plugin found id=\"org.tenon.echo\"");
    wait_for_answer(&client).await;
    assert_eq!(server.workers().len(), 1);
}

#[tokio::test]
async fn a_plugin_that_is_half_copied_is_waited_for() {
    let (mut server, client) = spawn("");
    server.wait_for_log("no model is served until a plugin");
    let library = fs::read(artifacts().library(ECHO)).unwrap();
    let (begin, rest) = library.split_at(library.len() / 2);
    let mut file = File::create(file_of(&server)).unwrap();
    file.write_all(begin).unwrap();
    server.wait_for_log("is cut off");
    wait_for_failure(&client, "is cut off").await;
    file.write_all(rest).unwrap();
    wait_for_answer(&client).await;
}

#[tokio::test]
async fn a_model_moves_to_a_replaced_plugin_while_a_stream_runs() {
    let (server, client) = start("reload_on_replace = true");
    let first = server.worker();
    // Each byte is a step, so the answer takes some seconds.
    let message = "All that is said is said again. ".repeat(32);
    let asked = chat(message.trim(), json!({"temperature": 0}));
    let mut stream = client.open(CHAT, &asked).await;
    let begin = stream.next_text().await;

    install(&server.home().join("plugins"), ECHO, FILE);
    let second = wait_for_worker_besides(&server, first).await;
    assert!(
        !ends_within(first, Duration::ZERO),
        "the stream's worker ended"
    );
    assert_eq!(begin + &stream.all_text().await, message.trim());
    assert!(ends_within(first, PATIENCE), "the first worker runs on");
    check_answers(&client).await;
    assert_eq!(server.worker(), second);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_again_goes_on_as_before() {
    let (mut server, client) = start("reload_on_replace = true");
    let first = server.worker();
    fs::remove_file(server.home().join("echo.echo")).unwrap();
    install(&server.home().join("plugins"), ECHO, FILE);
    server.wait_for_log("goes on as before");
    check_answers(&client).await;
    assert!(server.workers().contains(&first));
}

#[tokio::test]
async fn a_replaced_plugin_is_used_by_the_next_worker() {
    let (mut server, client) = start("");
    let first = server.worker();
    install(&server.home().join("plugins"), ECHO, FILE);
    server.wait_for_log("plugin replaced");
    check_answers(&client).await;
    assert_eq!(server.worker(), first);
    assert!(has_replaced_file(first));
    kill(first);
    let second = wait_for_worker_besides(&server, first).await;
    wait_for_answer(&client).await;
    assert!(!has_replaced_file(second));
}

#[tokio::test]
async fn the_plugin_of_the_next_worker_is_the_one_that_is_listed() {
    let (mut server, client) = start("");
    server.wait_for_log("plugin found");
    let first = server.worker();
    let renamed = file_of(&server).with_file_name("renamed.so");
    fs::rename(file_of(&server), &renamed).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let renamed = renamed.to_str().unwrap();
    while plugins_of(&client).await["backends"][0]["path"] != renamed {
        assert!(Instant::now() < deadline, "the plugin is not found again");
        sleep(Duration::from_millis(10)).await;
    }
    kill(first);
    wait_for_worker_besides(&server, first).await;
    wait_for_answer(&client).await;
    let (_, models) = client.get("/admin/models").await;
    assert_eq!(
        models["data"][0]["loaded"]["plugin"]["path"], renamed,
        "{models}"
    );
}

/// Overwriting a file changes the pages of the workers that have it mapped, so that they may end.
#[tokio::test]
async fn an_overwritten_plugin_is_used_by_the_next_worker() {
    let (mut server, client) = start("");
    let first = server.worker();
    fs::copy(artifacts().library(ECHO), file_of(&server)).unwrap();
    server.wait_for_log("plugin replaced");
    if server.workers().contains(&first) {
        kill(first);
    }
    wait_for_worker_besides(&server, first).await;
    wait_for_answer(&client).await;
}

#[tokio::test]
async fn an_administrator_moves_a_model_to_a_replaced_plugin() {
    let (mut server, client) = start("");
    let first = server.worker();
    install(&server.home().join("plugins"), ECHO, FILE);
    server.wait_for_log("plugin replaced");
    let (status, answer) = client.post("/admin/models/echo/reload", &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["outcome"], "reloaded");
    let second = wait_for_worker_besides(&server, first).await;
    assert!(!has_replaced_file(second));
    check_answers(&client).await;
}

#[tokio::test]
async fn a_removed_plugin_is_forgotten_for_new_loads() {
    let (mut server, client) = start("");
    fs::remove_file(file_of(&server)).unwrap();
    server.wait_for_log("plugin removed");
    assert_eq!(plugins_of(&client).await["backends"], json!([]));
    check_answers(&client).await;
    kill(server.worker());
    server.wait_for_log("can no longer be used");
    wait_for_failure(&client, "put it into a plugin directory again").await;
    install(&server.home().join("plugins"), ECHO, FILE);
    wait_for_answer(&client).await;
}

/// A server of an echo model with these keys in `[plugins]`. Its plugin is a file of its own, not a link.
fn start(keys: &str) -> (Server, Client) {
    let (mut server, client) = spawn(keys);
    install(&server.home().join("plugins"), ECHO, FILE);
    server.wait_for_log("model ready");
    (server, client)
}

/// A server of an echo model without its plugin, with these keys in `[plugins]`. It makes no drafts, which would shorten long
/// answers.
fn spawn(keys: &str) -> (Server, Client) {
    let config = format!(
        "[plugins]\n{keys}\n[engine]\nmax_draft_tokens = 0\n[[models]]\npath = 'echo.echo'\n"
    );
    let options = ServerOptions::new(&[]).file("echo.echo", "10");
    let mut server = options.config(&config).spawn();
    let client = server.client();
    (server, client)
}

fn file_of(server: &Server) -> PathBuf {
    server.home().join("plugins").join(FILE)
}

async fn plugins_of(client: &Client) -> Value {
    let (status, plugins) = client.get("/admin/plugins").await;
    assert_eq!(status, StatusCode::OK, "{plugins}");
    plugins
}

async fn check_answers(client: &Client) {
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
}

/// Asks the model until it fails for this reason. Until then it may say that it is loading.
async fn wait_for_failure(client: &Client, why: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = client.post(CHAT, &chat("Hi", json!({}))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let error = &answer["error"];
        if error["code"] == "model_failed" && error["message"].to_string().contains(why) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer} is not: {why}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Asks the model until it answers.
async fn wait_for_answer(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = chat("Hi", json!({"temperature": 0}));
        let (status, answer) = client.post(CHAT, &asked).await;
        if status == StatusCode::OK {
            return check_answers(client).await;
        }
        assert!(Instant::now() < deadline, "{answer}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a worker that is not this one.
async fn wait_for_worker_besides(server: &Server, first: u32) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut workers = server.workers().into_iter();
        if let Some(worker) = workers.find(|&worker| worker != first) {
            return worker;
        }
        assert!(Instant::now() < deadline, "there is no other worker");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a worker has loaded a plugin file that has been replaced since.
fn has_replaced_file(worker: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap();
    let mut of_plugin = maps.lines().filter(|line| line.contains(FILE)).peekable();
    assert!(of_plugin.peek().is_some(), "{maps}");
    of_plugin.all(|line| line.ends_with(" (deleted)"))
}
