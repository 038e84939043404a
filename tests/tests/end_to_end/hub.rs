//! Models that a server fetches from a hub before it loads them.

use std::{fs, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, HubServer, Server, ServerOptions, Trouble};
use tokio::time::sleep;

const CONFIG: &str = "
    [[models]]
    path = 'hf:tenon/tiny:echo.echo'
    [[models]]
    path = 'local.echo'
";
/// A model that loads quickly, and whose fetch lasts long enough for a test to look at it.
const MODEL: &[u8] = b"0                                                           ";

fn options(hub: &HubServer, config: &str) -> ServerOptions {
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("local.echo", "0")
        .config(config)
        .environment("HF_ENDPOINT", hub.address())
        .environment("HF_HOME", "cache")
        .environment("HF_TOKEN", "hf_mine")
        .environment("HF_HUB_OFFLINE", "0")
        .environment("NO_PROXY", "127.0.0.1")
}

/// What `GET /admin/models` reports of the model from the hub.
async fn seen(client: &Client) -> Value {
    let (_, models) = client.get("/admin/models").await;
    models["data"][0].clone()
}

async fn ask(client: &Client, model: &str) -> (StatusCode, Value) {
    let body = json!({"model": model, "prompt": "Hi", "temperature": 0});
    client.post("/v1/completions", &body).await
}

#[tokio::test]
async fn a_model_is_fetched_while_others_answer() {
    let hub = HubServer::start(&[("echo.echo", MODEL)]);
    hub.set(Trouble::Stalls(30));
    let mut server = options(&hub, CONFIG).spawn();
    let client = server.client();
    server.wait_for_log("model ready model=\"local\"");
    while seen(&client).await["download"]["done_bytes"] != 30 {
        sleep(Duration::from_millis(10)).await;
    }
    let model = seen(&client).await;
    assert_eq!(
        (&model["id"], &model["state"]),
        (&json!("tiny"), &json!("downloading"))
    );
    assert_eq!(model["download"]["total_bytes"], MODEL.len());
    assert_eq!(ask(&client, "local").await.0, StatusCode::OK);
    let (status, answer) = ask(&client, "tiny").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    // A server that is told to stop does not wait for the rest.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn the_first_request_fetches_a_model_on_demand() {
    let hub = HubServer::start(&[("echo.echo", MODEL)]);
    let on_demand = CONFIG.replacen(
        "echo.echo'",
        "echo.echo'\nload = 'on-demand'\nid = 'mine'",
        1,
    );
    let mut server = options(&hub, &on_demand).start();
    let client = server.client();
    assert!(hub.asked_for_files().is_empty());
    let (status, answer) = ask(&client, "mine").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let asked = hub.asked_for_files();
    assert_eq!(asked[0].authorization.as_deref(), Some("Bearer hf_mine"));
    assert_no_token_in_workers(&server);
    // Later loads do not ask the hub, so they work even if the hub lacks the model by then.
    hub.set(Trouble::LacksIt);
    for change in ["unload", "load", "reload"] {
        let (status, answer) = client
            .post(&format!("/admin/models/mine/{change}"), &json!({}))
            .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    assert_eq!(ask(&client, "mine").await.0, StatusCode::OK);
    assert_eq!(seen(&client).await["download"], Value::Null);
}

/// A plugin could print the token, or write it into its cache.
fn assert_no_token_in_workers(server: &Server) {
    let workers = server.workers();
    assert!(!workers.is_empty());
    for worker in workers {
        let environment = fs::read(format!("/proc/{worker}/environ")).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains("HF_HOME") && !environment.contains("hf_mine"));
    }
}

#[tokio::test]
async fn a_failed_download_fails_only_its_model() {
    let hub = HubServer::start(&[("echo.echo", MODEL)]);
    hub.set(Trouble::IsGated);
    let mut server = options(&hub, CONFIG).spawn();
    let client = server.client();
    server.wait_for_log("tenon/tiny is gated");
    let model = seen(&client).await;
    assert_eq!(model["state"], "failed");
    assert!(
        model["error"]
            .as_str()
            .unwrap()
            .contains("accept its terms"),
        "{model}"
    );
    assert_eq!(ask(&client, "local").await.0, StatusCode::OK);
    hub.set(Trouble::Nothing);
    let (status, answer) = client.post("/admin/models/tiny/load", &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(ask(&client, "tiny").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_cache_serves_without_the_hub() {
    let hub = HubServer::start(&[("echo.echo", MODEL)]);
    let cache = tempfile::tempdir().unwrap();
    let start = |variables: &[(&str, &str)]| {
        let model = ["hf:tenon/tiny:echo.echo"];
        let mut options = options(&hub, "")
            .arguments(&model)
            .environment("HF_HUB_CACHE", cache.path().to_str().unwrap());
        for (name, value) in variables {
            options = options.environment(name, value);
        }
        options.start()
    };
    drop(start(&[]));
    assert_eq!(hub.asked_for_files().len(), 1);
    hub.set(Trouble::IsBroken);
    let mut server = start(&[]);
    server.wait_for_log("is taken as it is in the cache, because");
    drop(server);
    let mut server = start(&[
        ("HF_HUB_OFFLINE", "1"),
        ("HF_ENDPOINT", "http://127.0.0.1:9"),
    ]);
    assert_eq!(ask(&server.client(), "tiny").await.0, StatusCode::OK);
}
