//! A plugin in a worker has no network, and neither the user's files nor the system's secrets.

use std::{fs, net::TcpListener};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, PluginFolder, Server, ServerOptions, kill};

const PLAIN: &str = "/v1/completions";
const ECHO: &str = "tenon_plugin_echo";
const CRASHES: &str = "tenon_fixture_crashes";
/// The calls in which the fixture tries what it should not be able to do.
const CALLS: [&str; 3] = ["load", "encode", "forward"];

#[tokio::test]
async fn a_plugin_reaches_neither_the_network_nor_the_users_files() {
    let listener = listener();
    let (mut server, client) = spawn(&listener, "");
    for call in CALLS {
        server.wait_for_log(&format!(r#"model ready model="{call}-probe""#));
        let (status, answer) = ask(&client, call).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    assert!(!server.home().join("written").exists());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a plugin has connected");
}

/// Without a sandbox the same attempts succeed, which shows that the sandbox refuses them.
#[tokio::test]
async fn without_a_sandbox_a_plugin_reaches_both() {
    let listener = listener();
    let (mut server, client) = spawn(&listener, "sandbox = 'off'");
    server.wait_for_log(r#"model ready model="encode-probe""#);
    let (status, answer) = ask(&client, "encode").await;
    assert_ne!(status, StatusCode::OK, "{answer}");
    let message = answer.to_string();
    for attempt in ["connecting", "reading the home", "writing the home"] {
        assert!(message.contains(attempt), "{message}");
    }
    assert!(server.home().join("written").exists());
    listener.accept().unwrap();
}

/// A plugin is tried out in a sandbox too, unless that of a model is off. Its cache directory is temporary then.
#[tokio::test]
async fn a_plugin_that_is_tried_out_reaches_neither() {
    let tried = |keys: &str| {
        let plugins = PluginFolder::empty();
        plugins.install(CRASHES, "init-probe.so");
        let address = listener();
        let temporary = tempfile::tempdir().unwrap();
        let config = format!(
            "[plugins]\ncache_directory = 'caches'\n[[models]]\npath = 'models/a.echo'\n{keys}\n"
        );
        let mut server = ServerOptions::new(&[ECHO])
            .file("secret", "secret")
            .file("models/a.echo", "")
            .file("caches/other/file", "")
            .config(&config)
            .arguments(&["--plugins", &plugins.path("").to_string_lossy()])
            .environment(
                "FIXTURE_ADDRESS",
                &address.local_addr().unwrap().to_string(),
            )
            .environment("TMPDIR", &temporary.path().to_string_lossy())
            .start();
        let told = server.wait_for_log("init-probe.so");
        let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        told
    };
    let in_sandbox = tried("");
    assert!(in_sandbox.contains("plugin found"), "{in_sandbox}");
    let outside = tried("sandbox = 'off'");
    for attempt in [
        "connecting",
        "reading the home",
        "writing the home",
        "writing a cache",
    ] {
        assert!(outside.contains(attempt), "{outside}");
    }
}

#[tokio::test]
async fn the_environment_of_a_worker_has_no_secrets() {
    let one_key = "[[models]]\npath = 'a.echo'\n[[keys]]\nname = 'a'\nenv = 'KEY_A'\n";
    let mut server = ServerOptions::new(&[ECHO])
        .file("a.echo", "0")
        .config(one_key)
        .environment("KEY_A", "s3cret-a")
        .environment("KEY_B", "s3cret-b")
        .environment("OTEL_EXPORTER_OTLP_HEADERS", "x=s3cret-c")
        .environment("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=s3cret-d")
        .environment("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x=s3cret-e")
        .environment("TENON__ENGINE__MAX_DRAFT_TOKENS", "0")
        .start();
    let client = server.client().with_key("s3cret-a");
    let environment = |server: &Server| {
        let environment = fs::read(format!("/proc/{}/environ", server.worker_of(ECHO))).unwrap();
        String::from_utf8(environment).unwrap()
    };
    let first = environment(&server);
    assert!(first.contains("HOME="), "{first}");
    // Nobody has said yet that the other variable has a key.
    assert!(first.contains("KEY_B=s3cret-b"), "{first}");
    for secret in ["KEY_A", "s3cret-a", "OTEL_", "TENON__"] {
        assert!(!first.contains(secret), "{first}");
    }

    let both_keys = format!("{one_key}[[keys]]\nname = 'b'\nenv = 'KEY_B'\n");
    fs::write(server.home().join("tenon.toml"), both_keys).unwrap();
    server.wait_for_log("the configuration was read again");
    kill(server.worker());
    client
        .wait_for_metric("tenon_worker_restarts_total", 1.0)
        .await;
    let second = environment(&server);
    assert!(!second.contains("s3cret"), "{second}");
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A server of a probing model for each call, with these keys in their `[[models]]`. The home of its user has a file that
/// is not beside the models.
fn spawn(listener: &TcpListener, keys: &str) -> (Server, Client) {
    let address = listener.local_addr().unwrap().to_string();
    let mut options = ServerOptions::new(&[CRASHES]).file("secret", "secret");
    let mut config = String::new();
    for call in CALLS {
        let path = format!("models/{call}-probe.crashes");
        options = options.file(&path, &address);
        config += &format!("[[models]]\npath = '{path}'\n{keys}\n");
    }
    let mut server = options.config(&config).spawn();
    let client = server.client();
    (server, client)
}

async fn ask(client: &Client, call: &str) -> (StatusCode, Value) {
    let model = format!("{call}-probe");
    let body = json!({"model": model, "prompt": "Go!", "max_tokens": 2});
    client.post(PLAIN, &body).await
}
