//! Popular clients and schemathesis, unchanged, each against the real server.

use std::{
    fs::copy,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use tempfile::tempdir;
use tenon_tests::{Server, ServerOptions, has_node, models::Bert, packages, smollm2};

const TESTS: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn smollm2_answers_the_python_examples() {
    python("seed_examples.py", &mut smollm2_server());
}

#[test]
fn smollm2_answers_the_official_python_client() {
    python("openai_client.py", &mut smollm2_server());
}

#[test]
fn smollm2_answers_anthropic_s_python_client() {
    python("anthropic_client.py", &mut smollm2_server());
}

#[test]
fn smollm2_answers_langchain() {
    python("langchain_client.py", &mut smollm2_server());
}

#[test]
fn smollm2_answers_litellm() {
    python("litellm_client.py", &mut smollm2_server());
}

#[test]
fn clients_of_agents_are_answered_with_reasoning_and_calls() {
    python("scripted_clients.py", &mut scripted_server());
}

#[test]
fn the_compliance_tests_of_open_responses_pass() {
    let call = r#"{"name": "get_weather", "arguments": {"location": "San Francisco"}}"#;
    let script =
        format!("=== answer\nI look.\n<tool_call>\n{call}\n</tool_call>\n=== answer\nAlice.\n");
    let options = ServerOptions::new(&["tenon_fixture_scripted"]);
    let options = options.file("model.scripted", &script);
    let mut server = options
        .config("[[models]]\npath = 'model.scripted'\n")
        .start();
    python("open_responses.py", &mut server);
}

#[test]
fn node_s_client_is_answered_with_reasoning_and_calls() {
    node("scripted.mjs", &mut scripted_server());
}

#[test]
fn schemathesis_finds_no_request_that_the_document_does_not_cover() {
    let options = ServerOptions::echo(0);
    let mut server = options
        .config("[responses]\nmax_kept_bytes = 1000000\n")
        .start();
    python("api_fuzz.py", &mut server);
}

/// Echo judges nothing, so its answers to these routes are all refusals.
#[test]
fn schemathesis_finds_no_such_request_to_a_cross_encoder() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("bert.gguf");
    Bert::judge().write_gguf(&path);
    let options = ServerOptions::new(&["tenon_plugin_llama_cpp"]);
    let mut server = options.arguments(&[&path.to_string_lossy()]).start();
    let routes = [
        "/v1/rerank",
        "/rerank",
        "/v1/score",
        "/v1/embeddings",
        "/v1/messages",
    ];
    let routes = routes.map(|route| format!("--include-path={route}"));
    python_with("api_fuzz.py", &mut server, &routes);
}

#[test]
fn smollm2_answers_the_official_node_client() {
    node("suite.mjs", &mut smollm2_server());
}

/// If an example sets no limit, the context length limits the answer.
fn smollm2_server() -> Server {
    let config = format!(
        "[engine]\nthreads = 1\ncontext_length = 320\n[[models]]\npath = {:?}\naliases = ['mistral', 'SmolLM2']\n",
        smollm2()
    );
    let options = ServerOptions::new(&["tenon_plugin_llama_cpp"]);
    options.config(&config).start()
}

/// A server whose model thinks and calls a tool, and then thinks and answers.
fn scripted_server() -> Server {
    let call = r#"{"name": "weather", "arguments": {"city": "Bonn"}}"#;
    let script = format!(
        "=== answer\n<think>I need the weather.</think>I look.\n<tool_call>\n{call}\n</tool_call>\n\
         === answer\n<think>It is dry.</think>Take no umbrella.\n"
    );
    let config = "[responses]\nmax_kept_bytes = 1000000\n[[models]]\npath = 'model.scripted'\n\
                  aliases = ['claude-*']\nreasoning_tags = ['<think>', '</think>']\n";
    let options = ServerOptions::new(&["tenon_fixture_scripted"]);
    options
        .file("model.scripted", &script)
        .config(config)
        .start()
}

/// Runs a suite of Node, where there is Node.
fn node(script: &str, server: &mut Server) {
    if !has_node() {
        return;
    }
    // Node looks for packages beside the script.
    let folder = tempdir().expect("a folder");
    let copied = folder.path().join(script);
    copy(Path::new(TESTS).join("node").join(script), &copied).expect("a copy");
    symlink(packages("node"), folder.path().join("node_modules")).expect("a link");
    let output = Command::new("node")
        .args([Path::new("--test"), &copied])
        .env("TENON", server.address())
        .output();
    check(output.expect("node starts"));
}

fn python(script: &str, server: &mut Server) {
    python_with(script, server, &[]);
}

fn python_with(script: &str, server: &mut Server, arguments: &[String]) {
    let output = Command::new("python3")
        .arg(Path::new(TESTS).join("python").join(script))
        .arg(server.address())
        .args(arguments)
        // Some suites write into the folder that they run in.
        .current_dir(server.home())
        .env("PYTHONPATH", packages("python"))
        .output();
    check(output.expect("python3 starts"));
}

/// Panics with what a program printed if it failed.
pub fn check(output: Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}
