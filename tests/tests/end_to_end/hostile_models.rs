//! Damaged models beside a good one: they are refused with a sentence, and the good one goes on.

use std::{fs, path::Path};

use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tenon_tests::{
    Backend, Client, GgufBytes, Server, ServerOptions,
    models::{Family, TestModel},
    set_weight,
};

const ECHO: &str = "tenon_plugin_echo";

/// A change that damages a valid file, and a part of the sentence that it must cause.
type Mistake = (fn(GgufBytes) -> GgufBytes, &'static str);

const EMBEDDING: &str = "token_embd.weight";

/// Mistakes that every backend must refuse.
const MISTAKES: [Mistake; 13] = [
    (
        |file| file.set_side(EMBEDDING, 1, (1 << 42) + 1),
        "but the file has",
    ),
    (
        |file| file.set_side(EMBEDDING, 1, 1 << 40),
        "but the file has",
    ),
    (
        |file| file.set_side(EMBEDDING, 1, u64::MAX),
        "has dimensions that are too large",
    ),
    (
        |file| file.set_side(EMBEDDING, 0, 0),
        "has a dimension of 0",
    ),
    (
        |file| file.set_place(EMBEDDING, 1 << 40),
        "but the file has",
    ),
    (|file| file.set_place(EMBEDDING, 33), "no multiple of 32"),
    (
        |file| file.set("llama.block_count", &i32::MAX.to_le_bytes()),
        "llama.block_count is 2147483647",
    ),
    (
        |file| file.set("llama.embedding_length", &u32::MAX.to_le_bytes()),
        "llama.embedding_length is 4294967295",
    ),
    (
        |file| file.set("llama.rope.freq_base", &0f32.to_le_bytes()),
        "llama.rope.freq_base is 0",
    ),
    (
        |file| {
            file.set(
                "llama.attention.layer_norm_rms_epsilon",
                &(-1e-5f32).to_le_bytes(),
            )
        },
        "layer_norm_rms_epsilon is -0.0000",
    ),
    (
        |file| {
            file.set(
                "tokenizer.ggml.eos_token_id",
                &4_000_000_000u32.to_le_bytes(),
            )
        },
        "tokenizer.ggml.eos_token_id is 4000000000",
    ),
    (|file| file.set_weight(f32::NAN), "infinite or no numbers"),
    (
        |file| file.set_weight(f32::INFINITY),
        "infinite or no numbers",
    ),
];

#[tokio::test]
async fn gguf_files_that_cannot_be_are_refused_beside_a_model_that_is_served() {
    let folder = TempDir::new().unwrap();
    let whole = whole_gguf(folder.path());
    let mut config = String::new();
    for backend in [Backend::CandleQuantized, Backend::LlamaCpp] {
        for (number, (change, _)) in MISTAKES.iter().enumerate() {
            let path = folder.path().join(format!("{number}.gguf"));
            fs::write(&path, change(whole.clone()).0).unwrap();
            config += &format!(
                "[[models]]\nid = \"{backend:?} {number}\"\npath = {path:?}\nbackend = \"{}\"\n",
                backend.id()
            );
        }
    }
    let plugins = [
        ECHO,
        Backend::CandleQuantized.library(),
        Backend::LlamaCpp.library(),
    ];
    let (mut server, client) = serve(&plugins, &config);
    for backend in [Backend::CandleQuantized, Backend::LlamaCpp] {
        for (number, (_, expected)) in MISTAKES.iter().enumerate() {
            let why = failure(&mut server, &format!("{backend:?} {number}"));
            assert!(
                why.contains(expected),
                "{backend:?}: no {expected:?} in {why}"
            );
        }
    }
    check_serves(&client).await;
}

/// A file of a directory, a text in it, what replaces the text, and a part of the sentence that this must cause.
const WRONG_FILES: [(&str, &str, &str, &str); 8] = [
    (
        "config.json",
        "\"num_hidden_layers\":3",
        "\"num_hidden_layers\":2147483648",
        "2147483648 layers",
    ),
    (
        "config.json",
        "\"hidden_size\":64",
        "\"hidden_size\":4294967360",
        "4294967360 numbers in the hidden state",
    ),
    (
        "config.json",
        "\"rope_theta\":",
        "\"rope_theta\":-1",
        "rope_theta) is -1",
    ),
    (
        "config.json",
        "\"eos_token_id\":",
        "\"eos_token_id\":4000000",
        "the end token 4000000",
    ),
    (
        "tokenizer.json",
        "\"id\":2,",
        "\"id\":4000000000,",
        "a token with the id 4000000000",
    ),
    (
        "tokenizer.json",
        "\"id\":2,",
        "\"id\":5000,",
        "the files do not belong together",
    ),
    (
        "model.safetensors",
        "\"shape\":[64]",
        "\"shape\":[99]",
        "cannot be read",
    ),
    (
        "model.safetensors",
        "\"dtype\":\"F32\"",
        "\"dtype\":\"F64\"",
        "cannot be read",
    ),
];

#[tokio::test]
async fn directories_that_cannot_be_are_refused_beside_a_model_that_is_served() {
    let folder = TempDir::new().unwrap();
    let mut config = String::new();
    for (number, (name, from, to, _)) in WRONG_FILES.iter().enumerate() {
        let path = folder.path().join(format!("{number}"));
        TestModel::tiny(Family::Llama).write_dir(&path);
        replace(&path.join(name), from, to);
        config += &format!("[[models]]\nid = \"{number}\"\npath = {path:?}\n");
    }
    let path = folder.path().join("nan");
    TestModel::tiny(Family::Llama).write_dir(&path);
    let mut weights = fs::read(path.join("model.safetensors")).unwrap();
    set_weight(&mut weights, f32::NAN);
    fs::write(path.join("model.safetensors"), weights).unwrap();
    config += &format!("[[models]]\nid = \"nan\"\npath = {path:?}\n");

    let (mut server, client) = serve(&[ECHO, Backend::Candle.library()], &config);
    for (number, (name, _, _, expected)) in WRONG_FILES.iter().enumerate() {
        let why = failure(&mut server, &number.to_string());
        assert!(why.contains(expected), "{name}: no {expected:?} in {why}");
    }
    let why = failure(&mut server, "nan");
    assert!(why.contains("infinite or no numbers"), "{why}");
    check_serves(&client).await;
}

#[tokio::test]
async fn a_file_that_was_replaced_by_a_wrong_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let whole = whole_gguf(folder.path());
    let path = folder.path().join("replaced.gguf");
    fs::write(&path, &whole.0).unwrap();
    let backend = Backend::CandleQuantized;
    let config = format!(
        "[[models]]\nid = \"tiny\"\npath = {path:?}\nbackend = \"{}\"\n",
        backend.id()
    );
    let (mut server, client) = serve(&[ECHO, backend.library()], &config);
    server.wait_for_log("model ready model=\"tiny\"");
    for (change, expected) in MISTAKES {
        let new = folder.path().join("new.gguf");
        fs::write(&new, change(whole.clone()).0).unwrap();
        fs::rename(&new, &path).unwrap();
        let asked = json!({"model": "tiny", "ggml_type": "Q8_0"});
        let (status, answer) = client.post("/re_isq", &asked).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "no {expected:?} in {message}");
    }
    let asked = json!({"model": "tiny", "prompt": "Hi", "max_tokens": 3, "temperature": 0});
    let (status, answer) = client.post("/v1/completions", &asked).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    check_serves(&client).await;
}

fn whole_gguf(folder: &Path) -> GgufBytes {
    let path = folder.join("whole.gguf");
    TestModel::tiny(Family::Llama).write_gguf(&path);
    GgufBytes(fs::read(path).unwrap())
}

/// A server with an echo model and other models.
fn serve(plugins: &[&str], models: &str) -> (Server, Client) {
    let config =
        format!("[engine]\nthreads = 1\n[[models]]\nid = \"echo\"\npath = \"x.echo\"\n{models}");
    let options = ServerOptions::new(plugins)
        .file("x.echo", "")
        .config(&config);
    let mut server = options.start();
    let client = server.client();
    (server, client)
}

/// The line of the log that says why a model is not served.
fn failure(server: &mut Server, id: &str) -> String {
    server.wait_for_log(&format!("model=\"{id}\""))
}

async fn check_serves(client: &Client) {
    let parameters = json!({"model": "echo", "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
}

/// Replaces bytes in a file that need not be text.
#[track_caller]
fn replace(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} in {}", path.display()));
    let new = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
    fs::write(path, new).unwrap();
}
