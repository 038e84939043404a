//! Plugins that are built against an older and against a newer ABI than the host's, or were built when 1.0 was frozen.
//! Neither side uses what it does not know, and each refuses what it would have to understand.

use std::path::{Path, PathBuf};

use serde_json::json;
use tenon::plugin::{Model, Registry};
use tenon_plugin_api::{Code, LoadArgs, SessionArgs};
use tenon_tests::{FrozenAbi, PluginFolder, ServerOptions, frozen_binary};

const ID: &str = "org.tenon.fixture.frozen";

#[tokio::test]
async fn a_plugin_of_the_first_abi_answers() {
    check_answer(&FrozenAbi::First.plugin(), "1.0").await;
}

#[tokio::test]
async fn a_plugin_of_a_newer_abi_answers_and_its_new_methods_are_not_used() {
    check_answer(&FrozenAbi::Later.plugin(), "1.1").await;
}

#[tokio::test]
async fn a_binary_of_the_first_abi_answers() {
    let binary = frozen_binary(FrozenAbi::First, "libtenon_frozen_plugin.so");
    check_answer(&binary, "1.0").await;
}

#[tokio::test]
async fn a_binary_of_a_newer_abi_answers() {
    let binary = frozen_binary(FrozenAbi::Later, "libtenon_frozen_plugin.so");
    check_answer(&binary, "1.1").await;
}

#[tokio::test]
async fn a_binary_in_c_of_the_first_abi_answers() {
    let mut server = ServerOptions::new(&[])
        .plugin(frozen_binary(
            FrozenAbi::First,
            "libtenon_plugin_ngram_c.so",
        ))
        .file("model.ngram", "one and two and three.\n\n")
        .arguments(&["model.ngram"])
        .start();
    let client = server.client();
    let parameters = json!({"temperature": 0, "max_tokens": 40});
    let answer = client.chat("one and t", parameters).await;
    assert_eq!(answer, "one and three.\n\n");
}

#[test]
fn what_a_newer_plugin_wants_understood_is_refused() {
    let folder = PluginFolder::empty();
    let plain = load(&folder, FrozenAbi::Later, "").session(&session_args());
    assert_eq!(plain.err(), None);
    let refused = load(&folder, FrozenAbi::Later, "word").session(&session_args());
    let error = refused.err().expect("an unknown word is refused");
    assert_eq!(error.code, Code::UNSUPPORTED);
    assert!(error.message.contains("granted a session"), "{error}");
    assert!(error.message.ends_with("update Tenon"), "{error}");
}

/// Serves a model of the plugin in a worker, and chats with it. The plugin answers with the ABI that it was built against.
async fn check_answer(plugin: &Path, abi: &str) {
    let folder = PluginFolder::empty();
    folder.install_file(plugin, "frozen.so");
    let listed = folder.list();
    assert_eq!(listed.ids(), [ID], "{:#}", listed.0);

    let mut server = ServerOptions::new(&[])
        .plugin(plugin.into())
        .file("model.frozen", "")
        .arguments(&["model.frozen"])
        .start();
    let client = server.client();
    let answer = client.chat("Who are you?", json!({"temperature": 0})).await;
    assert_eq!(answer, format!("built against ABI {abi}"));
    // The next turn uses forks.
    let again = client.chat("Who are you?", json!({"temperature": 0})).await;
    assert_eq!(again, answer);
}

/// Loads a model with this content into the test's own process.
fn load(folder: &PluginFolder, abi: FrozenAbi, content: &str) -> Model {
    folder.install_file(&abi.plugin(), "frozen.so");
    let path: PathBuf = folder.path("model.frozen");
    std::fs::write(&path, content).unwrap();
    let registry = Registry::load(&folder.options());
    let args = LoadArgs {
        path,
        ..LoadArgs::default()
    };
    let backend = registry.choose(Path::new(""), Some(ID));
    let backend = backend.unwrap_or_else(|error| panic!("{error}"));
    let model = backend.load(&args, Box::new(|_, _| true));
    model.unwrap_or_else(|error| panic!("{error}"))
}

fn session_args() -> SessionArgs {
    SessionArgs {
        max_sequences: 2,
        max_batch_tokens: 64,
        ..SessionArgs::default()
    }
}
