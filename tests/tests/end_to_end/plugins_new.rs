//! A new plugin, from `tenon plugins new` to a chat with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;
use tenon_tests::{Client, Server, artifacts, text};

#[tokio::test]
async fn a_new_plugin_is_built_tested_and_chatted_with() {
    let folder = TempDir::new().unwrap();
    let project = folder.path().join("tiny-imitator");
    run(Command::new(&artifacts().tenon)
        .args(["plugins", "new"])
        .arg(&project));
    // The versions that this repository is built with are at hand without a network.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, project.join("Cargo.lock")).unwrap();
    cargo(&project, &["fmt", "--check"]);
    cargo(&project, &["test", "--release", "--offline"]);
    cargo(&project, &["build", "--release", "--offline"]);

    let library = target().join("release/libtiny_imitator.so");
    let (_server, client) = serve(&project, &library, "models/rhyme.imitate");
    let answer = client
        .chat("Jack and Jill", json!({"temperature": 0, "max_tokens": 17}))
        .await;
    assert_eq!(answer, " went up the hill");
}

#[tokio::test]
async fn a_new_plugin_in_c_is_built_and_answers() {
    let folder = TempDir::new().unwrap();
    let project = folder.path().join("tiny-ngram");
    let mut new = Command::new(&artifacts().tenon);
    run(new.args(["plugins", "new", "--lang", "c"]).arg(&project));
    run(Command::new("make").current_dir(&project));
    let library = project.join("libtiny_ngram.so");
    let (_server, client) = serve(&project, &library, "models/rhyme.ngram");
    let body = json!({"prompt": "To fetch a p", "temperature": 0, "max_tokens": 3});
    let (_, answer) = client.post("/v1/completions", &body).await;
    assert_eq!(text(&answer), "ail");
}

#[test]
fn a_project_is_not_written_over_another_or_under_a_wrong_name() {
    let folder = TempDir::new().unwrap();
    for (name, expected) in [("", "exists already"), ("My Plugin", "lower-case letters")] {
        let path = folder.path().join("there").join(name);
        fs::create_dir_all(folder.path().join("there")).unwrap();
        let mut command = Command::new(&artifacts().tenon);
        let output = command.args(["plugins", "new"]).arg(path).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{error}"
        );
    }
}

/// A server of a model of the project through its plugin.
fn serve(project: &Path, library: &Path, model: &str) -> (Server, Client) {
    let plugins = project.join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::copy(library, plugins.join(library.file_name().unwrap())).unwrap();
    let mut serve = Command::new(&artifacts().tenon);
    serve
        .args(["serve", model, "--port", "0", "--plugins", "plugins"])
        .env("HOME", project)
        .env_remove("XDG_CONFIG_HOME")
        .current_dir(project);
    let mut server = Server::run(serve);
    let client = server.client();
    server.wait_for_log("model ready");
    (server, client)
}

/// Runs cargo in the project, as its author would: with none of this repository's settings.
fn cargo(project: &Path, arguments: &[&str]) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    let cargo = cargo.args(arguments).current_dir(project);
    run(cargo
        .env("CARGO_TARGET_DIR", target())
        .env_remove("RUSTFLAGS"));
}

/// The build directory of new plugins. It stays, so that only the first run compiles everything.
fn target() -> PathBuf {
    let release = artifacts().tenon.parent().unwrap();
    release.parent().unwrap().join("new-plugins")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
