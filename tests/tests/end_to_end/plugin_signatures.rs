//! Plugins that must be signed: which are used, and why the others are not.

use std::{fs, io::Cursor, path::Path};

use minisign::KeyPair;
use serde_json::json;
use tenon_tests::{Server, ServerOptions, install};

const ECHO: &str = "tenon_plugin_echo";

#[tokio::test]
async fn only_plugins_that_a_trusted_key_signed_are_opened() {
    let (key, other) = (key(), key());
    let mut server = spawn(&key);
    let plugins = server.home().join("plugins");
    // Each of these would end the process that opens it.
    for name in ["load-abort.so", "load-segfault.so", "load-exit.so"] {
        install(&plugins, "tenon_fixture_crashes", name);
    }
    sign(&plugins.join("load-segfault.so"), &other);
    sign(&plugins.join("load-exit.so"), &key);
    let mut bytes = fs::read(plugins.join("load-exit.so")).unwrap();
    bytes.push(0);
    fs::write(plugins.join("load-exit.so"), bytes).unwrap();
    install(&plugins, ECHO, "echo.so");
    sign(&plugins.join("echo.so"), &key);

    // A worker in its sandbox opens the copy that was checked.
    server.wait_for_log("model ready");
    let client = server.client();
    let answer = client
        .chat("so it is signed", json!({"temperature": 0}))
        .await;
    assert_eq!(answer, "so it is signed");
    let (_, listed) = client.get("/admin/plugins").await;
    let listed = listed.to_string();
    for expected in [
        "load-abort.so is not signed (",
        "load-segfault.so is signed with a key that trusted_keys of [plugins] does not name",
        "load-exit.so is not what was signed",
    ] {
        assert!(listed.contains(expected), "{listed}");
    }
}

#[test]
fn a_plugin_counts_once_its_signature_is_there() {
    let key = key();
    let mut server = spawn(&key);
    let plugins = server.home().join("plugins");
    install(&plugins, ECHO, "echo.so");
    server.wait_for_log("echo.so is not signed (");
    sign(&plugins.join("echo.so"), &key);
    server.wait_for_log("model ready");
}

/// A server of an echo model that waits for its plugin, which this key must have signed.
fn spawn(key: &KeyPair) -> Server {
    let key = key.pk.to_base64();
    let config = format!("[plugins]\ntrusted_keys = ['{key}']\n[[models]]\npath = 'echo.echo'\n");
    let mut server = ServerOptions::new(&[])
        .file("echo.echo", "")
        .config(&config)
        .spawn();
    server.wait_for_log("no model is served until a plugin");
    server
}

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

/// Writes the signature of a file beside it.
fn sign(path: &Path, key: &KeyPair) {
    let library = Cursor::new(fs::read(path).unwrap());
    let signature = minisign::sign(None, &key.sk, library, None, None).unwrap();
    let name = format!("{}.minisig", path.display());
    fs::write(name, signature.into_string()).unwrap();
}
