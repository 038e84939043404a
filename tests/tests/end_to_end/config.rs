//! `tenon config`, and the end of `tenon serve` with a wrong configuration.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tenon_tests::artifacts;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config");

#[test]
fn check_accepts_the_files_of_the_repository() {
    let file = Path::new(CONFIG).join("examples/several-models.toml");
    let output = tenon(&["config", "check", file.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{output:?}");
    let expected = format!(
        "{}: ok (3 models)\n  listens at http://127.0.0.1:8080\n  no key is needed\n  administration from this machine only\n\
         \x20 connections: 1024, also of one client\n\
         \x20 requests: bodies of 33554432 bytes; 15 s for the head, 60 s for the body, no limit for the whole request\n\
         \x20 waiting requests of a model: 256\n\
         \x20 at SIGTERM: 0 s in which requests are still taken, then 30 s for running ones, so whatever starts the server must wait longer than 30 s\n",
        file.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn check_explains_who_is_let_in() {
    let file = Path::new(CONFIG).join("examples/public-server.toml");
    let output = tenon(&["config", "check", file.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = shown.lines().skip(1).map(str::trim_start).collect();
    assert_eq!(
        lines,
        [
            "listens at https://0.0.0.0:8443 for clients",
            "listens at unix:/run/tenon/clients.sock for clients",
            "listens at http://127.0.0.1:9090 for administration and metrics",
            "listens at unix:/run/tenon/admin.sock for administration and metrics",
            "key website: 300 requests a minute; 200000 tokens a minute; 8 requests at the same time",
            "key partner: models chat; 30 requests a minute; 20000 tokens a minute; 2 requests at the same time; priority from 0",
            "key operator: administration",
            "requests address it as llm.example.com, by its address or by a private name",
            "web pages of https://www.example.com may use it",
            "connections: 4096, 64 of one client",
            "requests: bodies of 262144 bytes; 10 s for the head, 15 s for the body, 300 s for the whole request",
            "waiting requests of a model: 16",
            "memory of all models together: 8192 MiB",
            "at SIGTERM: 10 s in which requests are still taken, then 60 s for running ones, so whatever starts the server must wait longer than 70 s",
            "a line in the log about each request",
            "traces and metrics go to http://127.0.0.1:4318",
            "not on this machine: /etc/tenon/keys/website",
            "not on this machine: /etc/tenon/keys/operator",
            "not on this machine: /etc/letsencrypt/live/llm.example.com/fullchain.pem",
            "not on this machine: /etc/letsencrypt/live/llm.example.com/privkey.pem",
        ]
    );
}

#[test]
fn check_explains_certificates_of_clients() {
    let file = Path::new(CONFIG).join("examples/public-server.toml");
    let example = fs::read_to_string(file).unwrap();
    let with_clients = example.replace("# client_ca_file", "client_ca_file");
    assert_ne!(with_clients, example);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenon.toml");
    fs::write(&file, with_clients).unwrap();
    let output = tenon(&["config", "check", file.to_str().unwrap()], &[]);
    let shown = String::from_utf8_lossy(&output.stdout);
    let line =
        "over https only clients with a certificate of an authority in /etc/tenon/clients.pem";
    assert!(shown.contains(line), "{shown}");
}

#[test]
fn check_tells_all_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "[server]\nprot = 1\n[engine]\nthreads = 'all'").unwrap();
    let output = tenon(&["config", "check", file.to_str().unwrap()], &[]);
    let key = |key| format!("{}: \"{key}\"", file.display());
    check_refused(&output, &key("engine.threads"));
    check_refused(
        &output,
        &format!(
            "{} is no known key; did you mean \"port\"?",
            key("server.prot")
        ),
    );
}

#[test]
fn check_leaves_the_environment_out() {
    let file = Path::new(CONFIG).join("tenon.toml");
    let arguments = ["config", "check", file.to_str().unwrap()];
    let output = tenon(&arguments, &[("TENON__SERVER__PORT", "no port")]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_schema_names_every_section() {
    let output = tenon(&["config", "schema"], &[]);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        sections,
        [
            "server",
            "tls",
            "plugins",
            "engine",
            "grammar",
            "prompts",
            "responses",
            "telemetry",
            "keys",
            "models"
        ]
    );
}

#[test]
fn serve_ends_over_a_wrong_configuration() {
    let missing = tenon(&["serve", "--config", "no-such.toml"], &[]);
    check_refused(
        &missing,
        "no-such.toml cannot be read as a configuration file",
    );
    let cases = [
        ("KEEP_ALIVE_INTERVAL", "0"),
        ("KEEP_ALIVE_INTERVAL", "soon"),
        ("TENON__SERVER__PORT", "99999"),
        ("TENON__MODELS__0__PATH", "a.gguf"),
    ];
    for (name, value) in cases {
        let output = tenon(&["serve", "a.gguf"], &[(name, value)]);
        check_refused(&output, &format!("the environment variable {name} "));
    }
}

/// Runs the program in a place where it finds no configuration by itself.
fn tenon(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(&artifacts().tenon)
        .args(arguments)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn check_refused(output: &Output, sentence: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(sentence), "{error}");
}
